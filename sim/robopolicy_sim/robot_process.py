"""What runs in the processes of the simulated robot: the control loop and the cameras."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.realtime.child import DeviceChannel, Message
from robopolicy_drivers.realtime.loop import DeadlineLoop
from robopolicy_drivers.realtime.ring import Ring
from robopolicy_drivers.realtime.scheduling import request_punctuality, set_timer_slack
from robopolicy_drivers.safety.configs import SafetyConfig
from robopolicy_sim.robot_control import WorldControl
from robopolicy_sim.tasks.manipulation import task_world
from robopolicy_sim.worlds.world import World

STATE_RING = "state"
IMAGE_RING = "images"
PHYSICS_KEY = "physics"
SUCCESS_KEY = "success"
STOPPED_KEY = "stopped"

_CATCH_UP_S = 0.04
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
    """Cartesian targets become what the safety gates let pass, and this becomes physics."""

    def __init__(
        self,
        world: World,
        channel: DeviceChannel,
        workspace: Sequence[Sequence[float]],
        safety: SafetyConfig,
    ) -> None:
        self.world, self.channel = world, channel
        self.control = WorldControl(world, safety, workspace)
        rate_hz = self.control.rate_hz
        self.loop = DeadlineLoop(rate_hz, channel.statistics, channel.sections)
        self.substeps = round(1.0 / rate_hz / world.timestep)
        self.catch_up_ticks = round(_CATCH_UP_S * rate_hz)
        self.visible = [feature.key for feature in channel.rings[STATE_RING].features]

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
                self.control.tick(self.loop.deadline_ns)
            with physics:
                # Like a real robot, this one goes on as it was told last while its controller is late.
                self.world.step(self.substeps * min(elapsed, self.catch_up_ticks))
            with publish:
                self.publish()

    def publish(self) -> None:
        state = {
            **self.world.state(),
            PHYSICS_KEY: self.world.get_physics_state(),
            SUCCESS_KEY: np.array(self.world.success()),
            STOPPED_KEY: np.array(bool(self.control.stopped)),
        }
        self.channel.rings[STATE_RING].write(now_ns(), {key: state[key] for key in self.visible})

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
            "command": lambda payload: self.control.command(payload[0], payload[1], now),
            "hold": lambda _: self.control.hold(now),
            "stop": self._stop,
            "release": self._release,
            "safety_events": lambda _: self.control.events(),
            "reset": self._reset,
        }

    def _stop(self, reason: str) -> None:
        self.control.stop(reason, self.loop.deadline_ns)
        self.publish()  # at once: who stops the robot finds it stopped when the answer comes

    def _release(self, _: None) -> None:
        self.control.release()
        self.publish()

    def _reset(self, seed: int) -> None:
        # The same numbers as gymnasium's reset(seed=...) draws from.
        self.world.reset(np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed))))
        self.control.restart(self.loop.deadline_ns)
        self.publish()
        self.loop.restart()
        self.channel.statistics.reset()


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
