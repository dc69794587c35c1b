"""What runs in the processes of the simulated robot: the control loop and the cameras."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.geometry import pose_from_vector, pose_to_vector
from robopolicy_drivers.control.differential_ik import DifferentialIK
from robopolicy_drivers.realtime.child import DeviceChannel, Message
from robopolicy_drivers.realtime.interpolator import WaypointInterpolator, WaypointPart
from robopolicy_drivers.realtime.loop import DeadlineLoop, request_fifo, set_timer_slack
from robopolicy_drivers.realtime.ring import Ring
from robopolicy_sim.worlds.tabletop import TabletopWorld

STATE_RING = "state"
IMAGE_RING = "images"
PHYSICS_KEY = "physics"
SUCCESS_KEY = "success"

# Faster than any action of the task asks for; the joints' own limits act in the inverse kinematics.
TARGET_PARTS = (
    WaypointPart(3, 1.5),
    WaypointPart(3, 6.0, "rotation"),
    WaypointPart(1, kind="immediate"),
)
CONTROL_RATE_HZ = 125.0
_IK_ITERATIONS = 2  # at this rate, targets move so little between ticks that more would find nothing to do
_CATCH_UP_TICKS = 5
_CAMERA_NICENESS = 5


def control(channel: DeviceChannel, embodiment: str) -> None:
    """Runs the physics and its controller in real time until the channel closes."""
    loop = _ControlLoop(TabletopWorld(embodiment), channel)
    set_timer_slack()
    request_fifo()
    loop.publish()
    channel.ready()
    loop.run()


class _ControlLoop:
    """Cartesian targets, interpolated, become joint targets and physics."""

    def __init__(self, world: TabletopWorld, channel: DeviceChannel) -> None:
        self.world = world
        self.channel = channel
        self.loop = DeadlineLoop(CONTROL_RATE_HZ, channel.statistics)
        self.ik = DifferentialIK(world.kinematics, period_s=1.0 / CONTROL_RATE_HZ, iterations=_IK_ITERATIONS)
        self.substeps = round(1.0 / CONTROL_RATE_HZ / world.timestep)
        self.interpolator = self._standing()

    def run(self) -> None:
        while not self.channel.closing:
            elapsed = self.loop.wait()
            for message in self.channel.messages():
                self._handle(message)
            self._track()
            # Like a real arm, this one goes on moving to its last set point while its controller is late.
            self.world.step(self.substeps * min(elapsed, _CATCH_UP_TICKS))
            self.publish()

    def publish(self) -> None:
        state = {
            **self.world.state(),
            PHYSICS_KEY: self.world.get_physics_state(),
            SUCCESS_KEY: np.array(self.world.success()),
        }
        self.channel.rings[STATE_RING].write(now_ns(), state)

    def _track(self) -> None:
        target = self.interpolator.evaluate(self.loop.deadline_ns)
        joints = self.ik.solve(pose_from_vector(target[None, :6]), self.world.joint_targets[None])[0]
        self.world.set_targets(joints, float(target[6]))

    def _handle(self, message: Message) -> None:
        if message.name == "command":
            target, at_ns = message.payload
            self.interpolator.schedule(target, at_ns, self.loop.deadline_ns)
        elif message.name == "stop":
            self.interpolator.hold(self.loop.deadline_ns)
            message.reply()
        elif message.name == "reset":
            self._reset(message.payload)
            message.reply()
        else:
            message.refuse(f"the simulated robot knows command, stop and reset, not '{message.name}'.")

    def _reset(self, seed: int) -> None:
        # The same numbers as gymnasium's reset(seed=...) draws from.
        self.world.reset(np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed))))
        self.interpolator = self._standing()
        self.publish()
        self.loop.restart()
        self.channel.statistics.reset()

    def _standing(self) -> WaypointInterpolator:
        pose = self.world.kinematics.forward(self.world.joint_targets)
        return WaypointInterpolator([*pose_to_vector(pose), self.world.gripper_target], TARGET_PARTS)


def film(channel: DeviceChannel, embodiment: str, image_size: int, rate_hz: float) -> None:
    """Draws the newest physics state for every camera of the image ring until the channel closes."""
    # Drawing must never take time from the control loop: one thread, and below everybody else.
    os.environ.setdefault("LP_NUM_THREADS", "1")
    os.nice(_CAMERA_NICENESS)
    world = TabletopWorld(embodiment)
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


def _draw(world: TabletopWorld, source: Ring, images: Ring, size: int) -> int:
    record = source.newest()
    if record is None:
        return 0
    world.set_physics_state(record.data[PHYSICS_KEY])
    frames: dict[str, NDArray[np.uint8]] = {
        feature.key: world.render(feature.key.removesuffix("_rgb"), size, size) for feature in images.features
    }
    images.write(record.time_ns, frames)
    return record.number
