"""A scripted expert for peg in hole."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from robopolicy_datasets.geometry import Array, axis_angle_to_matrix, pose_matrix
from robopolicy_sim.experts.expert import funnel, length, wrap
from robopolicy_sim.experts.fixtures import FixtureExpert, Thing
from robopolicy_sim.tasks.peg_in_hole import (
    CHAMFER,
    HANDLE_HALF_SIZE,
    HEIGHT,
    HOLE_HALF_SIZE,
    SUCCESS_DEPTH,
    PegInHoleScene,
)

CLEARANCE = 0.02  # [m] of the tip above the rims when it moves aside
DEEPER = 0.012  # [m] than success asks for


class PegInHoleExpert(FixtureExpert):
    """Takes the peg out of its holder and puts it into the hole; see ``FixtureExpert``."""

    mishaps: ClassVar[tuple[str, ...]] = ("miss",)
    noise_near = 0.003
    scene: PegInHoleScene

    def thing(self) -> Thing:
        """The peg by its handle, of whose four sides those are taken that look most to the robot."""
        peg = self.scene.peg_pose
        yaw = wrap(math.atan2(peg[1, 0], peg[0, 0]), math.pi / 2)
        return Thing("peg", pose_matrix(peg[:3, 3], _turned(yaw) @ self.scene.tool), self._width, False)

    _width = 2 * HANDLE_HALF_SIZE[1]

    def bring(self) -> Array:
        """Up, over the hole, and down; the peg is kept upright meanwhile."""
        tool, peg, tip, hole = self.world.robot.tcp_pose, self.scene.peg_pose, self.scene.tip, self.scene.hole
        away = hole - tip
        beside = length(away[:2])
        in_hole = beside < HOLE_HALF_SIZE and tip[2] < HEIGHT + 0.5 * CHAMFER
        low = tip[2] < HEIGHT + 0.5 * CLEARANCE and beside > HOLE_HALF_SIZE + CHAMFER
        above = 0.0 if in_hole else funnel(beside - 0.004, 2 * CLEARANCE)
        goal = np.array([*hole[:2], HEIGHT - SUCCESS_DEPTH - DEEPER + above])
        if low:  # in the holder, or beside the hole's column: up first
            goal = np.array([*tip[:2], HEIGHT + 2 * CLEARANCE])
        elif beside > HOLE_HALF_SIZE + CHAMFER:
            goal[2] = HEIGHT + CLEARANCE + 0.01
        upright = _shortest_turn(peg[:3, 2], np.array([0.0, 0.0, 1.0]))
        return pose_matrix(tool[:3, 3] + goal - tip, upright @ tool[:3, :3])


def _turned(yaw: float) -> Array:
    return axis_angle_to_matrix(np.array([0.0, 0.0, yaw]))


def _shortest_turn(direction: Array, wanted: Array) -> Array:
    """Returns the rotation ``[3, 3]`` that brings one direction (3) to another."""
    axis = np.cross(direction, wanted)
    sine = length(axis)
    angle = math.atan2(sine, float(direction @ wanted))
    return axis_angle_to_matrix(axis * (angle / max(sine, 1e-9)))
