"""What runs in the processes of the simulated robot: the control loop and the cameras."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.control.guarded_arm import GuardedArm
from robopolicy_drivers.realtime.child import DeviceChannel, Message
from robopolicy_drivers.realtime.loop import DeadlineLoop
from robopolicy_drivers.realtime.ring import Ring
from robopolicy_drivers.realtime.scheduling import request_punctuality, set_timer_slack
from robopolicy_drivers.safety.configs import SafetyConfig
from robopolicy_sim.tasks.manipulation import task_world
from robopolicy_sim.worlds.world import World

STATE_RING = "state"
IMAGE_RING = "images"
PHYSICS_KEY = "physics"
SUCCESS_KEY = "success"
STOPPED_KEY = "stopped"

CONTROL_RATE_HZ = 125.0
_CATCH_UP_TICKS = 5
_CAMERA_NICENESS = 5


def control(
    channel: DeviceChannel,
    task: str,
    embodiment: str,
    workspace: Sequence[Sequence[float]],
    safety: SafetyConfig,
) -> None:
    """Runs the physics and its controller in real time until the channel closes."""
    loop = _ControlLoop(task_world(task, embodiment), channel, workspace, safety)
    request_punctuality()
    loop.publish()
    channel.ready()
    loop.run()


class _ControlLoop:
    """Cartesian targets become joint targets that the safety gate lets pass, and these become physics."""

    def __init__(
        self,
        world: World,
        channel: DeviceChannel,
        workspace: Sequence[Sequence[float]],
        safety: SafetyConfig,
    ) -> None:
        self.world = world
        self.channel = channel
        self.workspace, self.safety = workspace, safety
        self.loop = DeadlineLoop(CONTROL_RATE_HZ, channel.statistics, channel.sections)
        self.substeps = round(1.0 / CONTROL_RATE_HZ / world.timestep)
        self.arm = self._standing()

    def run(self) -> None:
        messages, track, physics, publish = map(
            self.channel.sections.section, ("messages", "track", "physics", "publish")
        )
        while not self.channel.closing:
            elapsed = self.loop.wait()
            with messages:
                for message in self.channel.messages():
                    self._handle(message)
            with track:
                self._track()
            with physics:
                # Like a real arm, this one goes on moving to its last set point while its controller is late.
                self.world.step(self.substeps * min(elapsed, _CATCH_UP_TICKS))
            with publish:
                self.publish()

    def publish(self) -> None:
        measured = self.world.state()
        self._position = measured["robot0_joint_pos"]  # what the gate watches at the next tick
        state = {
            **measured,
            PHYSICS_KEY: self.world.get_physics_state(),
            SUCCESS_KEY: np.array(self.world.success()),
            STOPPED_KEY: np.array(bool(self.arm.gate.stopped)),
        }
        self.channel.rings[STATE_RING].write(now_ns(), state)

    def _track(self) -> None:
        joints = self.arm.tick(self.loop.deadline_ns, position=self._position)
        self.world.robot.set_targets(joints, self.arm.width)

    def _handle(self, message: Message) -> None:
        answer = self._requests.get(message.name)
        if answer is None:
            known = ", ".join(self._requests)
            message.refuse(f"the simulated robot knows {known}, not '{message.name}'.")
            return
        try:
            message.reply(answer(message.payload))
        except DeviceError as error:
            message.refuse(str(error))

    @property
    def _requests(self) -> Mapping[str, Callable[[Any], Any]]:
        now = self.loop.deadline_ns
        return {
            "command": lambda payload: self.arm.command(payload[0], payload[1], now),
            "hold": lambda _: self.arm.hold(now),
            "stop": self._stop,
            "release": self._release,
            "safety_events": lambda _: [event.to_event() for event in self.arm.gate.log.events()],
            "reset": self._reset,
        }

    def _stop(self, reason: str) -> None:
        self.arm.gate.stop(reason, self.loop.deadline_ns)
        self.publish()  # at once: who stops the robot finds it stopped when the answer comes

    def _release(self, _: None) -> None:
        self.arm.gate.release()
        self.publish()

    def _reset(self, seed: int) -> None:
        # The same numbers as gymnasium's reset(seed=...) draws from.
        self.world.reset(np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed))))
        stopped, log = self.arm.gate.stopped, self.arm.gate.log
        self.arm = self._standing()
        self.arm.gate.log = log
        if stopped:  # a new scene releases nothing
            self.arm.gate.stop(stopped, self.loop.deadline_ns)
        self.publish()
        self.loop.restart()
        self.channel.statistics.reset()

    def _standing(self) -> GuardedArm:
        return GuardedArm(
            self.world.robot.kinematics,
            self.world.robot.joint_targets,
            self.world.robot.gripper_target,
            period_s=1.0 / CONTROL_RATE_HZ,
            config=self.safety,
            workspace=self.workspace,
        )


def film(channel: DeviceChannel, task: str, embodiment: str, image_size: int, rate_hz: float) -> None:
    """Draws the newest physics state for every camera of the image ring until the channel closes."""
    # Drawing must never take time from the control loop: one thread, and below everybody else.
    os.environ.setdefault("LP_NUM_THREADS", "1")
    os.nice(_CAMERA_NICENESS)
    world = task_world(task, embodiment)
    loop = DeadlineLoop(rate_hz, channel.statistics)
    set_timer_slack()
    source, images = channel.rings[STATE_RING], channel.rings[IMAGE_RING]
    _draw(world, source, images, image_size)
    channel.ready()
    last = 0
    while not channel.closing:
        loop.wait()
        channel.messages()
        if source.latest != last:
            last = _draw(world, source, images, image_size)


def _draw(world: World, source: Ring, images: Ring, size: int) -> int:
    record = source.newest()
    if record is None:
        return 0
    world.set_physics_state(record.data[PHYSICS_KEY])
    frames: dict[str, NDArray[np.uint8]] = {
        feature.key: world.render(feature.key.removesuffix("_rgb"), size, size) for feature in images.features
    }
    images.write(record.time_ns, frames)
    return record.number
