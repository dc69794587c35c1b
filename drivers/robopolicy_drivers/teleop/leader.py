"""A leader arm: a person moves it by hand, and the robot does the same.

Joints are followed as they are, by a robot that takes joint positions. It begins to follow when the leader is
near it, or comes to the leader slowly when it is told to: it never jumps. A robot that takes poses moves and
turns its tool as the leader's tool does from the moment when it is told to follow, wherever both are.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import SpecError
from robopolicy_datasets.geometry import pose_to_vector
from robopolicy_datasets.registry import load_target
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_drivers.interfaces import Observation, Robot
from robopolicy_drivers.runtime.take_over import Clutch
from robopolicy_drivers.teleop.approach import Approach
from robopolicy_drivers.teleop.configs import BUTTON_DEVICES, Button, LeaderConfig
from robopolicy_drivers.teleop.connected import Connected
from robopolicy_drivers.teleop.layout import JOINT, POSE, WIDTH, ActionPart, action_parts, action_space
from robopolicy_drivers.teleop.steered import SteeringDevice
from robopolicy_drivers.teleop.steering import NewPresses
from robopolicy_drivers.teleop.watched import WatchedSensor

Array = NDArray[np.float64]

AT_LEADER = 1e-3  # [rad] how near the slow way has to come
SAME_GRIP = 0.003  # [m] openings that differ by less are the same


class LeaderDevice(WatchedSensor):
    """A leader arm in a process of its own.

    Args:
        config: which one.
    """

    def __init__(self, config: LeaderConfig) -> None:
        joints = len(load_embodiment(config.embodiment).joints)
        features = (
            Feature("joints", (joints,), "float64", kind="joint", unit="rad"),
            Feature("width", (1,), "float64", kind="width", unit="m"),
        )
        super().__init__(f"{__name__}:LeaderSource", config, Spec(features, ()), name="leader arm")


class LeaderSource:
    """Reads a leader arm, in its own process (a ``Source`` of ``hosting.sensor_loop``).

    Args:
        config: which one.
    """

    def __init__(self, config: LeaderConfig) -> None:
        self._arm = load_target(config.arm)(config.port, config.calibration, config.embodiment)

    def open(self) -> None:
        """Opens its bus; its motors have no torque then."""
        self._arm.open()

    def read(self) -> tuple[int, dict[str, NDArray]]:
        """Returns where it is."""
        time_ns, joints, width = self._arm.positions()
        return time_ns, {"joints": np.asarray(joints, np.float64), "width": np.array([width])}

    def close(self) -> None:
        """Closes its bus."""
        self._arm.close()


class Follow(Enum):
    """Whether the robot does what the leader does."""

    HELD = "held"  # it holds until it is told to follow
    WAITING = "waiting"  # it follows as soon as the leader is near
    COMING = "coming"  # it goes slowly to where the leader is
    FOLLOWING = "following"


class LeaderTeleop(Connected):
    """Lets a robot follow a leader arm (a ``Teleop``); the buttons are another device's.

    Args:
        config: of the leader.
        robot: that follows; it need not be connected.

    Raises:
        SpecError: the robot has other joints, or several tools.

    Attributes:
        spec: the robot's action.
        follow: whether it follows.
    """

    def __init__(self, config: LeaderConfig, robot: Robot) -> None:
        self.spec = robot.spec
        self._config = config
        self._parts = {part.kind: part for part in action_parts(robot)}
        self._arm = LeaderDevice(config)
        joints = self._arm.spec["joints"].size
        _require_one_arm(self._parts, len(action_parts(robot)), joints, config, robot)
        self._buttons = SteeringDevice(BUTTON_DEVICES[config.buttons]())
        self._kinematics = Kinematics(load_embodiment(config.embodiment))
        self._space = action_space(action_parts(robot))
        self._approach = Approach(self._space, config.approach_speed, config.approach_speed)
        self._clutch = Clutch(self, self._space)
        self._sample: dict[str, NDArray] = {}
        self._grip_before: float | None = None  # how much wider the leader's grip was when the robot came
        self.follow = Follow.HELD
        self.let_go()

    def connect(self) -> None:
        """Opens the leader, and the device with the buttons.

        Raises:
            DeviceError: one of them is not there, or may not be used; says what to do.
        """
        self._arm.connect()
        try:
            self._buttons.connect()
        except BaseException:
            self._arm.close()
            raise
        self._new_presses = NewPresses()
        self._sample = self._arm.recent()

    def poll(self) -> frozenset[str]:
        """Reads the leader and the buttons; see ``Teleop``. "Next" lets the robot follow, and hold again."""
        self._sample = self._arm.recent()
        pressed = self._new_presses.of(self._buttons.steering().presses)
        if Button.NEXT in pressed:
            if self.follow in (Follow.COMING, Follow.FOLLOWING):
                self.follow = Follow.HELD
            elif JOINT in self._parts:
                self._come()
            else:
                self.follow = Follow.FOLLOWING
        return pressed

    def command(self, state: Observation, last: NDArray) -> Array:
        """Returns where the robot is to be ``[A]``; see ``Teleop``."""
        if JOINT not in self._parts:
            target = self._clutch.command(state, last)
            return np.array(last if target is None else target, np.float64)
        before = np.array(last, np.float64)
        goal = self._with_grip(self._in_layout(self._sample["joints"], JOINT), before)
        joints = self._parts[JOINT].span
        if self.follow is Follow.WAITING and np.abs(goal - before)[joints].max() <= self._config.near:
            self._come()
        if self.follow is Follow.COMING:
            target = self._approach.toward(goal, before)
            if np.abs(target - goal)[joints].max() < AT_LEADER:
                self.follow = Follow.FOLLOWING
            return target
        return goal if self.follow is Follow.FOLLOWING else before

    def pose(self) -> Array | None:
        """Returns where the leader's tool is, as the robot's action; None while the robot holds."""
        if self.follow is not Follow.FOLLOWING:
            return None
        pose = pose_to_vector(self._kinematics.forward(self._sample["joints"]))
        return self._in_layout(pose.astype(np.float64), POSE)

    def let_go(self) -> None:
        """The robot holds, until the leader is near or "next" is pressed; see ``Teleop``."""
        self.follow = Follow.WAITING if JOINT in self._parts else Follow.HELD
        self._clutch = Clutch(self, self._space)

    def close(self) -> None:
        """Closes both devices; calling it again does nothing."""
        self._buttons.close()
        self._arm.close()

    def _come(self) -> None:
        """The robot begins to go to where the leader is."""
        self.follow = Follow.COMING
        self._approach.restart()
        self._grip_before = None

    def _with_grip(self, goal: Array, before: Array) -> Array:
        """Returns ``goal`` with the gripper as it was, until the leader's grip has reached its opening.

        What the robot holds does not fall when the robot begins to follow.
        """
        if WIDTH not in self._parts:
            return goal
        span = self._parts[WIDTH].span
        ahead = float(goal[span][0] - before[span][0])
        if self._grip_before is None:
            self._grip_before = ahead
        if self._grip_before * ahead > 0.0 and abs(ahead) > SAME_GRIP:
            goal[span] = before[span]
        else:
            self._grip_before = 0.0  # passed: it follows from now on
        return goal

    def _in_layout(self, values: Array, kind: str) -> Array:
        """Returns an action ``[A]`` of the leader's joints or pose, and its grip."""
        target = np.zeros(self._space.size)
        target[self._parts[kind].span] = values
        if WIDTH in self._parts:
            target[self._parts[WIDTH].span] = self._sample["width"]
        return target


def _require_one_arm(
    parts: Mapping[str, ActionPart], count: int, joints: int, config: LeaderConfig, robot: Robot
) -> None:
    """Refuses a robot that one leader arm cannot lead."""
    led = parts.get(JOINT)
    fits = POSE in parts if led is None else led.span.stop - led.span.start == joints
    if len(parts) != count or not fits:
        raise SpecError(
            f"The leader arm '{config.embodiment}' has {joints} joints and a grip; it can lead one arm with "
            f"as many joints, or one tool, not: {robot.spec.action[0].describe()}."
        )
