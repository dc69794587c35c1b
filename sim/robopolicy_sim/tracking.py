"""From poses of a tool to what a simulated robot's servos and rotors take, control step by control step."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy.spatial.transform import Rotation

from robopolicy_datasets.geometry import (
    Array,
    invert_pose,
    matrix_to_quaternion,
    matrix_to_rot6d,
    pose_matrix,
)
from robopolicy_drivers.control.differential_ik import DifferentialIK
from robopolicy_drivers.control.flying_arm import FlyingArmState
from robopolicy_drivers.control.whole_body_mpc import WholeBodyMpc
from robopolicy_sim.worlds.arm_model import TARGET_SMOOTHING
from robopolicy_sim.worlds.body import Body

AHEAD_STEPS, AHEAD_STEP_S = 8, 0.08  # [-], [s] that the predictive control looks ahead, as in UMI-on-Air
GIVEN_BACK = 0.8  # of what the robot feels by touching; all of it would push harder and harder
FELT_SHARE = 0.2  # of a tick's contact wrench in the filtered one: chatter is not to reach the rotors
SPEED_SHARE = 0.97  # of the joints' limits that targets use: servos overshoot a ramp's speed by 2 %


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
    kind = CarriedTracker if robot.carried else FlyingTracker
    return kind(robot, period_s, ticks)


class ArmTracker:
    """Inverse kinematics once a control step; joint targets go there in equal parts. See ``Tracker``.

    A servo that lags because its torque did not suffice would hurry after its target faster than it may. So
    a target is never further from its joint than a servo stays behind a ramp of the largest speed.
    """

    def __init__(self, robot: Body, period_s: float, ticks: int) -> None:
        self._robot, self._ticks = robot, ticks
        self._ik = DifferentialIK(robot.kinematics, period_s=SPEED_SHARE * period_s)
        joints = robot.embodiment.joints
        behind_s = np.array([joint.damping / joint.stiffness for joint in joints]) + TARGET_SMOOTHING
        behind_s += 0.5 * period_s / ticks  # the ramp comes in steps
        self._lead = SPEED_SHARE * robot.embodiment.velocity_limits * behind_s

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
        targets, joints = self._start + fraction * (self._goal - self._start), self._robot.joint_positions
        targets = np.minimum(np.maximum(targets, joints - self._lead), joints + self._lead)
        self._robot.set_targets(targets, self._width)


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


class FlyingTracker:
    """A ``Pilot`` flies from target to target, tick by tick. See ``Tracker``."""

    def __init__(self, robot: Body, period_s: float, ticks: int) -> None:
        self._robot = robot
        self._pilot = Pilot(robot, period_s / ticks)
        self._ahead = AHEAD_STEP_S / period_s * np.arange(1, AHEAD_STEPS + 1)
        self._tick = 1.0 / ticks

    def reset(self) -> None:
        """Starts from where the robot was put."""
        self._goal = self._robot.tcp_pose
        self._pilot.reset()

    def aim(self, pose: Array, width: float) -> None:
        """See ``Tracker``."""
        self._start, self._goal, self._width, self._done = self._goal, pose, width, 0.0
        self._turn = Rotation.from_matrix(pose[:3, :3] @ self._start[:3, :3].T).as_rotvec()

    def tick(self) -> None:
        """See ``Tracker``."""
        self._pilot.follow(self._reference(), self._width)
        self._done += self._tick

    def _reference(self) -> Array:
        """Returns the way from the last target to this one, and then rest ``[N, 9]``."""
        fractions = np.minimum(self._done + self._ahead, 1.0)[:, None]
        positions = self._start[:3, 3] + fractions * (self._goal[:3, 3] - self._start[:3, 3])
        rotations = Rotation.from_rotvec(fractions * self._turn).as_matrix() @ self._start[:3, :3]
        return np.concatenate([positions, matrix_to_rot6d(rotations)], axis=-1)


class Pilot:
    """Flies a body with rotors: model-predictive control of rotors and joints together.

    Two things that its model leaves out are added: servos aim higher by what the arm's weight makes them sag,
    and the rotors give back most of the wrench that the robot feels where it touches or carries something (a
    sensor at the wrist measures it). Other forces, such as wind, are left to the feedback.

    Args:
        robot: to fly.
        period_s: time between two calls of ``follow`` [s].
    """

    def __init__(self, robot: Body, period_s: float) -> None:
        self._robot = robot
        self._mpc = WholeBodyMpc(robot.kinematics, steps=AHEAD_STEPS, step_s=AHEAD_STEP_S, period_s=period_s)
        self._allocation = np.linalg.pinv(robot.embodiment.flying_base.wrench_matrix)
        self.reset()

    def reset(self) -> None:
        """Forgets the last flight."""
        self._warm_start: Array | None = None
        self._felt = np.zeros(6)

    def follow(self, reference: Array, width: float) -> None:
        """Commands rotors, joints and gripper for the next period.

        Args:
            reference: poses of the tool in the world after ``AHEAD_STEPS`` steps of ``AHEAD_STEP_S`` each
                ``[N, 9]``: position [m] and rot6d.
            width: of the gripper [m].
        """
        robot, sag = self._robot, self._robot.sag
        state = FlyingArmState(
            position=robot.base_pose[None, :3, 3],
            quaternion=matrix_to_quaternion(robot.base_pose[None, :3, :3]),
            linear_velocity=robot.base_twist[None, :3],
            angular_velocity=robot.base_twist[None, 3:],
            joints=robot.joint_positions[None],
            joint_targets=(robot.joint_targets - sag)[None],
        )
        # The first solution has nothing to begin with, and a single Gauss-Newton step would be a poor one.
        solve = self._mpc.converge if self._warm_start is None else self._mpc.solve
        solution = solve(reference[None], state, self._warm_start)
        self._warm_start = solution.inputs
        self._felt += FELT_SHARE * (robot.contact_wrench - self._felt)
        robot.set_thrusts(solution.thrusts[0] - GIVEN_BACK * self._allocation @ self._felt)
        robot.set_targets(solution.joint_targets[0] + sag, width)
