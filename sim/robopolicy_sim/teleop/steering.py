"""From held keys to where a tool is to be. Nothing here knows a window or a simulation.

The target moves while a key is held and stays where it is otherwise, however the robot sags or is pushed: a
target taken anew from the measured pose would drift. It does not run away from a robot that cannot follow,
and a movement the other way begins where the robot is.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from robopolicy_datasets.geometry import Array, axis_angle_to_matrix, matrix_to_axis_angle, pose_to_vector

# Along the person's axes: away, left, up.
MOVES = {
    **dict.fromkeys(("w", "up"), (1, 0, 0)),
    **dict.fromkeys(("s", "down"), (-1, 0, 0)),
    **dict.fromkeys(("a", "left"), (0, 1, 0)),
    **dict.fromkeys(("d", "right"), (0, -1, 0)),
    **dict.fromkeys(("r", "page up"), (0, 0, 1)),
    **dict.fromkeys(("f", "page down"), (0, 0, -1)),
}
# About the tool's own axes: z out of it, the fingers opening along y.
TURNS = {"q": (0, 0, -1), "e": (0, 0, 1), "z": (1, 0, 0), "x": (-1, 0, 0), "c": (0, 1, 0), "v": (0, -1, 0)}
SLOWLY = ("left shift", "right shift")
SLOW = 0.2  # of the speed

LARGEST_LEAD = 3  # control steps at full speed by which a target may be ahead of the tool


def person_axes(camera: Array) -> Array:
    """Returns the world's axes as a person sees them who looks through a camera.

    Args:
        camera: its axes ``[3, 3]`` in the world, as columns: right, up and backward; right is level.

    Returns:
        Three columns ``[3, 3]``: away from the person (the horizontal axis of the world that lies nearest to
        where the camera looks), to the left, and up.
    """
    looks = np.array([-camera[1, 0], camera[0, 0], 0.0])  # a quarter turn to the left of right
    nearest = np.argmax(np.abs(looks))
    away, up = np.sign(looks[nearest]) * np.eye(3)[nearest], np.array([0.0, 0.0, 1.0])
    return np.column_stack([away, np.cross(up, away), up])


def direction(keys: Collection[str], table: dict[str, tuple[int, int, int]]) -> Array:
    """Returns what held keys ask for along three axes ``[3]``, each from -1 to 1.

    Args:
        keys: names of the keys that are held; those of no meaning here are passed over.
        table: ``MOVES`` or ``TURNS``.
    """
    wanted = np.sum([table[key] for key in keys if key in table], axis=0) * np.ones(3)
    return np.clip(wanted, -1.0, 1.0) * (SLOW if any(key in keys for key in SLOWLY) else 1.0)


class ToolTarget:
    """Where a person wants one tool to be.

    Args:
        pose: of the tool center point in the world ``[4, 4]``, at the beginning.
        lower: limits of the commands ``[7]``: position [m], axis-angle [rad], width [m].
        upper: see ``lower``.
        lead: how far ahead of the tool it may be moved [m, rad].

    Attributes:
        pose: wanted, in the world ``[4, 4]``.
        width: wanted, of the gripper [m]; open at first.
    """

    def __init__(self, pose: Array, lower: Array, upper: Array, lead: tuple[float, float]) -> None:
        self.pose = pose.copy()
        self.width = float(upper[6])
        self._lower, self._upper, self._lead = lower, upper, lead

    def move(self, shift: Array, turn: Array, measured: Array) -> None:
        """Moves it; zeros leave it exactly where it is.

        Args:
            shift: along the world's axes (3) [m].
            turn: about the tool's axes (3), as an axis-angle [rad].
            measured: pose of the tool ``[4, 4]`` now.
        """
        position, rotation = self.pose[:3, 3], self.pose[:3, :3]
        away = matrix_to_axis_angle(measured[:3, :3].T @ rotation)
        moved = position + _bounded(shift, position - measured[:3, 3], self._lead[0])
        turned = rotation @ axis_angle_to_matrix(_bounded(turn, away, self._lead[1]))
        self.pose[:3, 3] = np.clip(moved, self._lower[:3], self._upper[:3])
        self.pose[:3, :3] = turned

    def toggle_gripper(self) -> None:
        """Closes an open gripper, opens a closed one."""
        lowest, widest = float(self._lower[6]), float(self._upper[6])
        self.width = lowest if self.width == widest else widest

    @property
    def command(self) -> Array:
        """As the environments take it ``[7]``: position [m], axis-angle [rad], width [m]."""
        return np.concatenate([pose_to_vector(self.pose), [self.width]])


def _bounded(step: Array, ahead: Array, lead: float) -> Array:
    """Returns ``step``, made to lead to between 0 and ``lead`` ahead of the tool, seen along the step."""
    size = float(np.linalg.norm(step))
    if size == 0.0:
        return step
    along = float(ahead @ step) / size
    return step * ((min(max(along, 0.0) + size, lead) - along) / size)
