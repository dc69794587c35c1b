"""From what a person wants to where a tool is to be. Nothing here knows a device or a robot.

The target moves while it is steered and stays where it is otherwise, however the robot sags or is pushed: a
target taken anew from the measured pose would drift. It does not run away from a robot that cannot follow,
and a movement the other way begins where the robot is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from robopolicy_datasets.geometry import Array, axis_angle_to_matrix, matrix_to_axis_angle, pose_to_vector
from robopolicy_drivers.teleop.configs import Frame

LEAD_S = 0.3  # time at full speed by which a target may be ahead of the tool


def view_axes(yaw: float) -> Array:
    """Returns the axes of a person who looks along the robot's x axis, turned by ``yaw`` [rad] about z.

    Returns:
        Three columns ``[3, 3]`` in the robot's frame: away, to the left, up.
    """
    cosine, sine = math.cos(yaw), math.sin(yaw)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


class ToolTarget:
    """Where a person wants one tool to be.

    Args:
        pose: of the tool center point in the robot's frame ``[4, 4]``, at the beginning.
        width: of the gripper [m], at the beginning.
        lower: limits of the commands ``[7]``: position [m], axis-angle [rad], width [m].
        upper: see ``lower``.
        lead: how far ahead of the tool it may be moved [m, rad].

    Attributes:
        pose: wanted ``[4, 4]``.
        width: wanted, of the gripper [m].
    """

    def __init__(
        self, pose: Array, width: float, lower: Array, upper: Array, lead: tuple[float, float]
    ) -> None:
        self.pose = pose.copy()
        self.width = width
        self._lower, self._upper, self._lead = lower, upper, lead

    def move(self, shift: Array, turn: Array, measured: Array) -> None:
        """Moves it; zeros leave it exactly where it is.

        Args:
            shift: along the axes of the robot's frame (3) [m].
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
        self.width = lowest if self.width > 0.5 * (lowest + widest) else widest

    @property
    def command(self) -> Array:
        """As the robots take it ``[7]``: position [m], axis-angle [rad], width [m]."""
        return np.concatenate([pose_to_vector(self.pose), [self.width]])


class SteeringTarget:
    """Where a person wants the tools of a robot to be, as a device steers them.

    Args:
        tools: at least one.
        move_frame: along whose axes they are moved.
        turn_frame: about whose axes they are turned.

    Attributes:
        tools: as given.
        active: numbers of those that are steered; at first only the first.
    """

    def __init__(self, tools: Sequence[ToolTarget], move_frame: Frame, turn_frame: Frame) -> None:
        self.tools = tools
        self.active = range(1)
        self._move_frame, self._turn_frame = move_frame, turn_frame

    def next_tools(self) -> None:
        """Goes on to the next single tool; after the last one to all of them together, then to the first."""
        count, following = len(self.tools), self.active[-1] + 1
        if following < count:
            self.active = range(following, following + 1)
        else:
            self.active = range(count) if len(self.active) == 1 else range(1)

    def steer(self, step: Array, axes: Array, measured: Sequence[Array], shift: Array | None = None) -> None:
        """Moves the tools that are active.

        Args:
            step: along three axes [m], and about them [rad] ``[6]``.
            axes: of the person ``[3, 3]``, as columns in the robot's frame: away, to the left, up.
            measured: pose of each tool ``[4, 4]`` now.
            shift: a movement more (3) [m], in the robot's frame.
        """
        for number in self.active:
            tool = self.tools[number]
            own = tool.pose[:3, :3]
            along = own if self._move_frame is Frame.TOOL else axes
            about = step[3:] if self._turn_frame is Frame.TOOL else own.T @ axes @ step[3:]
            moved = along @ step[:3]
            tool.move(moved if shift is None else moved + shift, about, measured[number])

    def toggle_grippers(self) -> None:
        """Closes the open grippers of the active tools and opens the closed ones."""
        for number in self.active:
            self.tools[number].toggle_gripper()


def _bounded(step: Array, ahead: Array, lead: float) -> Array:
    """Returns ``step``, made to lead to between 0 and ``lead`` ahead of the tool, seen along the step."""
    size = float(np.linalg.norm(step))
    if size == 0.0:
        return step
    along = float(ahead @ step) / size
    return step * ((min(max(along, 0.0) + size, lead) - along) / size)
