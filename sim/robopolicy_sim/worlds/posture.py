"""Joint positions from which a robot can begin a task, and whether it reaches what the task asks of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.geometry import Array, invert_pose, matrix_to_axis_angle, pose_matrix
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.embodiments import Embodiment

CLOSE_POSITION = 0.005  # [m] of the tool from where it should be
CLOSE_ANGLE = 0.1  # [rad]
NEAR_HOME = 0.003  # weight of a radian from home against a meter or radian of error
TRIES = 12  # beginnings of the search


@dataclass(frozen=True)
class Posture:
    """How a robot stands.

    Attributes:
        joints: positions ``[J]`` [rad].
        base: pose of a flying base in the world ``[4, 4]``; None where the base is fixed.
    """

    joints: Array
    base: Array | None


def start_posture(embodiment: Embodiment, base: Array, tool: Array, task: str) -> Posture:
    """Returns the posture nearest to home with the tool at a pose; home itself where an arm looks that way.

    Args:
        embodiment: the robot's.
        base: pose of a fixed base in the world ``[4, 4]``.
        tool: where the tool center point is to be, in the world ``[4, 4]``.
        task: for the error message.

    Raises:
        ConfigError: no posture brings it there.
    """
    kinematics = Kinematics(embodiment)
    home = embodiment.home_positions
    if embodiment.base is None:
        target = invert_pose(base) @ tool
        if kinematics.forward(home)[:3, 2] @ target[:3, 2] > np.cos(CLOSE_ANGLE):
            return Posture(home, None)  # it looks the right way at home, over the task's middle
        return Posture(_solve(kinematics, target, task), None)
    # A flying base goes wherever it must, but stays level: only the tool's direction is for the joints.
    joints: Array = home
    if embodiment.joints and not _reached(kinematics, home, tool, position=False):
        joints = _solve(kinematics, tool, task, position=False)
    return Posture(joints, tool @ invert_pose(kinematics.forward(joints)))


def require_reach(embodiment: Embodiment, base: Array, tools: Array, task: str) -> None:
    """Refuses an arm that cannot bring its tool to all of these poses ``[N, 4, 4]`` in the world.

    Raises:
        ConfigError: with the first that it does not reach.
    """
    kinematics = Kinematics(embodiment)
    for tool in tools:
        _solve(kinematics, invert_pose(base) @ tool, task)


def _solve(kinematics: Kinematics, target: Array, task: str, *, position: bool = True) -> Array:
    embodiment = kinematics.embodiment
    lower, upper = embodiment.position_limits.T
    random = np.random.default_rng(0)  # the same posture each time

    def residual(joints: Array) -> Array:
        error = _error(kinematics, joints, target, position=position)
        return np.concatenate([error, NEAR_HOME * (joints - embodiment.home_positions)])

    begin = np.clip(embodiment.home_positions, lower + 1e-6, upper - 1e-6)
    best, smallest = begin, np.inf
    for _ in range(TRIES):
        found = least_squares(residual, begin, bounds=(lower, upper), xtol=1e-10)
        if found.cost < smallest:
            best, smallest = found.x, found.cost
        if _reached(kinematics, best, target, position=position):
            return best
        begin = random.uniform(lower, upper)
    error = _error(kinematics, best, target, position=position)
    raise ConfigError(
        f"The embodiment '{embodiment.name}' cannot do {task}: its tool does not reach "
        f"{np.round(target[:3, 3], 3).tolist()} m from its base with z along "
        f"{np.round(target[:3, 2], 2).tolist()} (nearest: {1000 * np.linalg.norm(error[:3]):.0f} mm and "
        f"{np.degrees(np.linalg.norm(error[3:])):.0f} degrees away)."
    )


def _error(kinematics: Kinematics, joints: Array, target: Array, *, position: bool) -> Array:
    pose = kinematics.forward(joints)
    away = target[:3, 3] - pose[:3, 3] if position else np.zeros(3)
    return np.concatenate([away, matrix_to_axis_angle(target[:3, :3] @ pose[:3, :3].T)])


def _reached(kinematics: Kinematics, joints: Array, target: Array, *, position: bool) -> bool:
    error = _error(kinematics, joints, target, position=position)
    return bool(np.linalg.norm(error[:3]) <= CLOSE_POSITION and np.linalg.norm(error[3:]) <= CLOSE_ANGLE)


def corners(center: Array, extent: Array, tool: Array) -> Array:
    """Returns tool poses ``[8, 4, 4]`` at the corners of a box, all with the orientation ``tool [3, 3]``."""
    signs = np.array(np.meshgrid(*[(-1.0, 1.0)] * 3)).reshape(3, -1).T
    return np.stack([pose_matrix(np.add(center, sign * np.asarray(extent)), tool) for sign in signs])
