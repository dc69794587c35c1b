"""What runs in the process of a mirrored scene: physics whose robots follow what real ones measure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.hosting.device import RING
from robopolicy_drivers.realtime.child import DeviceChannel
from robopolicy_drivers.realtime.loop import DeadlineLoop
from robopolicy_drivers.realtime.ring import Ring
from robopolicy_drivers.realtime.scheduling import set_timer_slack
from robopolicy_sim.configs import SimulatedRobotConfig
from robopolicy_sim.mirror import start_target
from robopolicy_sim.robot_control import RATE_HZ
from robopolicy_sim.tasks.manipulation import task_world
from robopolicy_sim.worlds.body import Body

POSITIONS, VELOCITIES, WIDTH = "robot0_joint_pos", "robot0_joint_vel", "robot0_gripper_width"
_CATCH_UP_TICKS = 5
_SMOOTHING = 0.2  # share of a new velocity that counts at once
_HELD_M = 0.002  # so much closer than in the scene, the real fingers would have met something


def mirror(channel: DeviceChannel, config: SimulatedRobotConfig) -> None:
    """Runs the scene in real time until the channel closes."""
    scene = _Scene(channel, config)
    set_timer_slack()
    scene.publish()
    channel.ready()
    while not channel.closing:
        elapsed = scene.loop.wait()
        for message in channel.messages():
            message.reply(scene.requests[message.name](message.payload))
        if scene.begun:
            scene.step(min(elapsed, _CATCH_UP_TICKS))
        scene.publish()


class _Scene:
    def __init__(self, channel: DeviceChannel, config: SimulatedRobotConfig) -> None:
        self.world = task_world(config.task, config.embodiment)
        self.channel, self.begun = channel, False
        self.loop = DeadlineLoop(RATE_HZ, channel.statistics)
        self.requests: dict[str, Callable[[Any], Any]] = {"prepare": self.prepare, "begin": self.begin}
        self._substeps = round(1.0 / RATE_HZ / self.world.timestep)
        self._followers = _followers(self.world.robots, channel.rings)

    def prepare(self, seed: int) -> list[float]:
        # The same numbers as gymnasium's reset(seed=...) draws from.
        self.world.reset(np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed))))
        self.begun = False
        return [float(value) for value in start_target(self.world)]

    def begin(self, _: None) -> int:
        for follower in self._followers:
            follower.stand()
        self.begun = True
        self.loop.restart()
        return self.publish()

    def step(self, ticks: int) -> None:
        for follower in self._followers:
            follower.follow()
        self.world.step(self._substeps * ticks)

    def publish(self) -> int:
        """Writes the scene into the ring; returns its time [ns, monotonic]."""
        time_ns = now_ns()
        state: dict[str, NDArray] = {
            "physics": self.world.get_physics_state(),
            "success": np.array(self.begun and self.world.success()),
        }
        for robot in self.world.robots:
            state[f"robot{robot.number}_gripper_width"] = np.array([robot.gripper_width], np.float32)
        self.channel.rings[RING].write(time_ns, state)
        return time_ns


class _Follower:
    """A robot in the scene that does what a real one does.

    Args:
        body: the robot in the scene.
        arm: ring of the real arm's states.
        gripper: ring of the real gripper's, which may be the arm's.
    """

    def __init__(self, body: Body, arm: Ring, gripper: Ring) -> None:
        self._body, self._arm, self._gripper = body, arm, gripper
        joints = body.embodiment.joints
        # A servo with damping follows a motion so much later; it is told where the joint will be then.
        self._lead_s = np.array([joint.damping / joint.stiffness for joint in joints])
        self._velocities = np.zeros(len(joints))

    def stand(self) -> None:
        """Puts the robot where the real one is."""
        positions, _, width = self._measured()
        self._body.start(positions, width)

    def follow(self) -> None:
        """Tells the servos where the real joints are."""
        positions, velocities, width = self._measured()
        # Measured velocities are rough; a hand that shakes loses what it holds.
        self._velocities += _SMOOTHING * (velocities - self._velocities)
        if width < self._body.gripper_width - _HELD_M:
            width = 0.0  # they meet something, which is in the scene alone: it is gripped with all force
        self._body.set_targets(positions + self._body.sag + self._velocities * self._lead_s, width)

    def _measured(self) -> tuple[NDArray, NDArray, float]:
        arm, gripper = self._arm.newest(), self._gripper.newest()
        if arm is None or gripper is None:
            raise DeviceError("A real robot that is connected has published no state; connect it again.")
        positions, velocities = (np.asarray(arm.data[key], np.float64) for key in (POSITIONS, VELOCITIES))
        return positions, velocities, float(gripper.data[WIDTH][0])


def _followers(bodies: Sequence[Body], rings: Mapping[str, Ring]) -> list[_Follower]:
    """Returns what moves each robot: its arm's ring and its gripper's, in the order of the parts."""
    parts = [rings[name] for name in sorted(rings) if name != RING]
    keys = [{feature.key for feature in ring.features} for ring in parts]
    arms = [ring for ring, has in zip(parts, keys, strict=True) if POSITIONS in has]
    grippers = [ring for ring, has in zip(parts, keys, strict=True) if WIDTH in has]
    return [_Follower(*both) for both in zip(bodies, arms, grippers, strict=True)]
