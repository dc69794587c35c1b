"""From poses of a tool to what a simulated robot's servos and rotors take, control step by control step."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy.spatial.transform import Rotation

from robopolicy_datasets.geometry import Array, invert_pose, pose_matrix
from robopolicy_drivers.control.differential_ik import DifferentialIK
from robopolicy_sim.worlds.body import Body


class Tracker(Protocol):
    """Moves one robot's tool."""

    def reset(self) -> None:
        """Forgets the last episode; the robot stands where it was put."""
        ...

    def aim(self, pose: Array, width: float) -> None:
        """Sets where the tool is to be at the end of this control step.

        Args:
            pose: of the tool center point in the world ``[4, 4]``.
            width: of the gripper [m].
        """
        ...

    def tick(self) -> None:
        """Commands the robot for the next tick of the control step."""
        ...


def make_tracker(robot: Body, period_s: float, ticks: int) -> Tracker:
    """Returns the tracker that fits a robot's body.

    Args:
        robot: to move.
        period_s: control step [s].
        ticks: of a control step.
    """
    if robot.embodiment.base is None:
        return ArmTracker(robot, period_s, ticks)
    return CarriedTracker(robot, period_s, ticks)


class ArmTracker:
    """Inverse kinematics once a control step; joint targets go there in equal parts. See ``Tracker``."""

    def __init__(self, robot: Body, period_s: float, ticks: int) -> None:
        self._robot, self._ticks = robot, ticks
        self._ik = DifferentialIK(robot.kinematics, period_s=period_s)

    def reset(self) -> None:
        """Does nothing: all state is the robot's."""

    def aim(self, pose: Array, width: float) -> None:
        """See ``Tracker``."""
        self._start = self._robot.joint_targets
        self._goal = self._ik.solve(self._robot.in_base(pose)[None], self._start[None])[0]
        self._width, self._done = width, 0

    def tick(self) -> None:
        """See ``Tracker``."""
        self._done += 1
        fraction = self._done / self._ticks
        self._robot.set_targets(self._start + fraction * (self._goal - self._start), self._width)


class CarriedTracker:
    """An ideal hand carries the tool, no faster than the base's limits of speed. See ``Tracker``."""

    def __init__(self, robot: Body, period_s: float, ticks: int) -> None:
        self._robot, self._ticks = robot, ticks
        self._tool = robot.kinematics.forward(robot.embodiment.home_positions)
        base = robot.embodiment.flying_base
        self._largest = period_s * np.array([base.velocity_limit, base.angular_velocity_limit])

    def reset(self) -> None:
        """Starts from where the robot was put."""
        self._at = self._robot.base_pose

    def aim(self, pose: Array, width: float) -> None:
        """See ``Tracker``."""
        self._start, self._done, self._width = self._at, 0, width
        goal = pose @ invert_pose(self._tool)
        move = goal[:3, 3] - self._start[:3, 3]
        turn = Rotation.from_matrix(goal[:3, :3] @ self._start[:3, :3].T).as_rotvec()
        excess = max(np.max(np.linalg.norm([move, turn], axis=1) / self._largest), 1.0)
        self._move, self._turn = move / excess, turn / excess

    def tick(self) -> None:
        """See ``Tracker``."""
        self._done += 1
        fraction = self._done / self._ticks
        rotation = Rotation.from_rotvec(fraction * self._turn).as_matrix() @ self._start[:3, :3]
        self._at = pose_matrix(self._start[:3, 3] + fraction * self._move, rotation)
        self._robot.carry(self._at)
        self._robot.set_targets([], self._width)
