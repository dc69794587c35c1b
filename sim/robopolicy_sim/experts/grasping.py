"""Taking and moving things with a gripper, decided anew at every moment by what is true then."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from robopolicy_datasets.geometry import Array, invert_pose, matrix_to_axis_angle, pose_matrix
from robopolicy_sim.experts.expert import funnel, length, step_towards
from robopolicy_sim.worlds.body import Body

LARGEST_TURN = 0.2  # [rad] of the tool in a step
CLOSE_BESIDE = 0.008  # [m] from the grasp at which the gripper closes
CLOSE_ANGLE = 0.12  # [rad]
HELD_BESIDE = 0.02  # [m] from the grasp that a held thing may be
NARROWER = 0.006  # [m] than the thing's thickness that the opening may be while it is held
WIDER = 0.007  # [m]; a thing can lie askew between the fingers
FINGER_MARGIN = 0.01  # [m] between a finger and a thing beside which it goes down
OPENS_BESIDE = 0.03  # [m] from the thing within which the fingers open before they go up
OPEN_BEYOND = 0.055  # [m] that the gripper opens beyond the thickness
WIDE = 0.018  # [m] that the opening must exceed the thickness to pass the thing


@dataclass(frozen=True)
class Grasp:
    """Where and how a thing is taken.

    Attributes:
        pose: of the tool center point around the thing ``[4, 4]``; z is where the tool comes down along.
        thickness: of the thing between the fingers [m].
        symmetry: turn about z after which the grasp is as good [rad].
        clearance: above the grasp, below which the tool does not move sideways to it [m].
    """

    pose: Array
    thickness: float
    symmetry: float = np.pi
    clearance: float = 0.06

    def offset(self, robot: Body) -> Array:
        """Returns the tool's place in the frame of the grasp (3) [m]; above it z is negative."""
        tcp = robot.tcp_pose[:3, 3]
        return self.pose[:3, :3].T @ (tcp - self.pose[:3, 3])

    def rotation(self, robot: Body) -> Array:
        """Of the equally good orientations, returns the one ``[3, 3]`` nearest to the tool's."""
        turns = np.arange(round(2 * np.pi / self.symmetry)) * self.symmetry
        choices = self.pose[:3, :3] @ Rotation.from_euler("z", turns[:, None]).as_matrix()
        return choices[np.argmax(np.einsum("nij,ij->n", choices, robot.tcp_pose[:3, :3]))]

    def near(self, robot: Body) -> bool:
        """Returns whether the fingers may touch the thing."""
        return length(self.offset(robot)) < 0.07


def holds(robot: Body, grasp: Grasp) -> bool:
    """Returns whether the thing is between closed fingers."""
    closed = robot.gripper_target < grasp.thickness
    fits = -NARROWER < robot.gripper_width - grasp.thickness < WIDER
    return closed and fits and length(grasp.offset(robot)) < HELD_BESIDE


def take(robot: Body, grasp: Grasp, *, height: float, speed: float) -> Array:
    """Returns the action ``[7]`` that brings an open gripper around a thing, or closes it there.

    Args:
        robot: that takes it.
        grasp: of the thing.
        height: above the thing from which the tool comes down [m].
        speed: largest move in a step [m].
    """
    offset, rotation = grasp.offset(robot), grasp.rotation(robot)
    turn = float(Rotation.from_matrix(robot.tcp_pose[:3, :3].T @ rotation).magnitude())
    if _around(robot, grasp, offset, turn):
        return command(robot, pose_matrix(grasp.pose[:3, 3], rotation), 0.0, speed)
    beside, above = length(offset[:2]), -offset[2]
    narrow = max(0.0, grasp.thickness + WIDE - robot.gripper_width)
    play = max(0.5 * (robot.gripper_width - grasp.thickness) - FINGER_MARGIN, FINGER_MARGIN)
    if above < grasp.clearance and (beside > play or narrow > 0.0):
        # Fingers that are low beside the thing, or still around another, would push it: open, then up.
        opening = narrow > 0.0 and beside < OPENS_BESIDE
        goal = offset if opening else np.array([*offset[:2], -max(height, grasp.clearance + 0.01)])
        rotation = robot.tcp_pose[:3, :3]
    else:
        error = beside + 0.1 * max(turn - 0.1, 0.0) + narrow
        goal = np.array([0.0, 0.0, -funnel(error - 0.006, height)])
    position = grasp.pose[:3, 3] + grasp.pose[:3, :3] @ goal
    # No wider than needed: wide fingers would touch what is beside the thing.
    width = min(robot.embodiment.parallel_gripper.max_width, grasp.thickness + OPEN_BEYOND)
    return command(robot, pose_matrix(position, rotation), width, speed)


def _around(robot: Body, grasp: Grasp, offset: Array, turn: float) -> bool:
    """Returns whether the fingers are where they can close; less exactly, once they do."""
    closing = robot.gripper_target < grasp.thickness
    if closing and robot.gripper_width < grasp.thickness - NARROWER:
        return False  # they have closed on nothing
    within = 2.0 if closing else 1.0
    near = max(length(offset[:2]), abs(offset[2])) < within * CLOSE_BESIDE
    return bool(near and turn < within * CLOSE_ANGLE)


def let_go(robot: Body, width: float) -> Array:
    """Returns the action ``[7]`` that opens the gripper to ``width`` [m] where it is."""
    return command(robot, robot.tcp_pose, width, 0.0)


def bring(robot: Body, thing: Array, goal: Array, speed: float) -> Array:
    """Returns the action ``[7]`` that brings a held thing from its pose ``[4, 4]`` towards another one.

    Args:
        robot: that holds it.
        thing: its pose in the world ``[4, 4]``.
        goal: where it is to go ``[4, 4]``.
        speed: largest move of the tool in a step [m].
    """
    return command(robot, goal @ invert_pose(thing) @ robot.tcp_pose, 0.0, speed)


def command(robot: Body, goal: Array, width: float, speed: float) -> Array:
    """Returns the action ``[7]`` that moves the tool towards a pose ``[4, 4]``.

    Args:
        robot: to move.
        goal: of its tool center point in the world ``[4, 4]``.
        width: of the gripper [m].
        speed: largest move in a step [m].
    """
    tcp = robot.tcp_pose
    turn = Rotation.from_matrix(goal[:3, :3] @ tcp[:3, :3].T).as_rotvec()
    turn *= min(1.0, LARGEST_TURN / max(length(turn), 1e-9))
    rotation = Rotation.from_rotvec(turn).as_matrix() @ tcp[:3, :3]
    position = step_towards(tcp[:3, 3], goal[:3, 3], speed)
    return np.concatenate([position, matrix_to_axis_angle(rotation), [width]])
