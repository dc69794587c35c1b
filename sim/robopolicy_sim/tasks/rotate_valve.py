"""Rotate valve: the lever of a quarter-turn valve is turned from open to closed, seen by two cameras."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from robopolicy_datasets.geometry import Array, axis_angle_to_matrix, matrix_to_quaternion, pose_matrix
from robopolicy_sim.tasks.configs import RotateValveConfig
from robopolicy_sim.tasks.manipulation import ManipulationEnv
from robopolicy_sim.worlds.body import Body
from robopolicy_sim.worlds.contacts import ContactForce
from robopolicy_sim.worlds.fixture_scene import FixtureScene, nearness
from robopolicy_sim.worlds.mjcf import Element, add, add_geom
from robopolicy_sim.worlds.scene import View

PIVOT = (-0.07, 0.0, 0.28)  # [m] of the lever's middle plane, in the fixture's frame
GRIP_RADIUS = 0.095  # [m] from the pivot, where the lever is taken
LEVER_LENGTH = 0.14  # [m]
LEVER_HALF_SIZE = (0.012, 0.008)  # [m] along the valve's axis, and across the lever
RANGE = math.radians(100.0)  # between the valve's stops
BEGINNINGS = math.radians(8.0)  # of the lever, from the first stop
SUCCESS_ANGLE = math.radians(90.0)  # from the first stop
FRICTION = 0.3  # [N m] of the packing
DAMPING = 0.4  # [N m s/rad]


class RotateValveScene(FixtureScene):
    """A pipe on a stand with a valve, whose lever turns about an axis that points to the robot."""

    name = "rotate_valve"
    task_text = "turn the lever of the valve to the green mark"
    center = (0.62, 0.0, 0.35)
    extent = (0.10, 0.11, 0.04)
    stands = (0.70, 0.0)
    views = {  # noqa: RUF012 (never changed)
        "camera0": View((0.23, -0.42, 0.62), (0.62, 0.00, 0.30), 34.0),
        "video": View((0.30, -1.20, 0.80), (0.41, 0.00, 0.25), 37.0),
    }

    def furnish(self, root: Element, fixture: Element) -> None:
        """Adds pipe, stand, marks and lever."""
        x, _, height = PIVOT
        add_geom(fixture, "cylinder", size=(0.07, 0.006), pos=(0.02, 0, 0.006), material="dark")
        add_geom(fixture, "cylinder", fromto=(0.02, 0, 0, 0.02, 0, height), size=0.018, material="dark")
        pipe = (0.02, -0.24, height, 0.02, 0.24, height)
        add_geom(fixture, "cylinder", fromto=pipe, size=0.024, material="steel")
        for side in (-1.0, 1.0):
            for near, far in ((0.055, 0.075), (0.215, 0.24)):
                ring = (0.02, side * near, height, 0.02, side * far, height)
                add_geom(fixture, "cylinder", fromto=ring, size=0.036, material="accent")
        add_geom(fixture, "sphere", size=0.042, pos=(0.02, 0, height), material="accent")
        add_geom(fixture, "cylinder", fromto=(0.02, 0, height, x, 0, height), size=0.014, material="dark")
        for angle, material in ((0.0, "floor"), (SUCCESS_ANGLE, "pad")):
            direction = _direction(angle)
            ends = (*(0.165 * direction), *(0.19 * direction))
            mark = add(fixture, "body", pos=(0.02, 0, height))
            add_geom(mark, "capsule", fromto=ends, size=0.009, material=material)
            add_geom(mark, "capsule", fromto=(*(0.04 * direction), *ends[:3]), size=0.004, material=material)
        self._add_lever(fixture)

    def _add_lever(self, fixture: Element) -> None:
        first = matrix_to_quaternion(axis_angle_to_matrix(np.array([-0.5 * RANGE, 0.0, 0.0])))
        lever = add(fixture, "body", name="lever", pos=PIVOT, quat=first, gravcomp=1)
        hinge = {"axis": (1, 0, 0), "range": (0, RANGE), "armature": 0.002}
        add(lever, "joint", name="valve", type="hinge", frictionloss=FRICTION, damping=DAMPING, **hinge)
        add_geom(lever, "cylinder", fromto=(-0.016, 0, 0, 0.03, 0, 0), size=0.02, material="dark", mass=0.05)
        along, across = LEVER_HALF_SIZE
        half = 0.5 * LEVER_LENGTH
        grip = {"priority": 1, "friction": (1.0, 0.02, 0.001), "solref": (0.01, 1)}
        box = {"size": (along, across, half), "pos": (0, 0, half)}
        add_geom(lever, "box", solid=True, material="cube", mass=0.1, **box, **grip)

    def bind(self, model: Any, data: Any, robots: Sequence[Body]) -> None:
        """Looks up the valve."""
        super().bind(model, data, robots)
        self._valve = int(model.joint("valve").qposadr[0])
        self.contact_force = ContactForce(model, data, ["hand"], ["lever"])

    def reset(self, random: np.random.Generator) -> None:
        """Puts the valve somewhere, its lever near the first stop."""
        super().reset(random)
        self._data.qpos[self._valve] = random.uniform(0.0, BEGINNINGS)

    @property
    def angle(self) -> float:
        """True angle of the lever from its first stop [rad]; for experts and scores."""
        return float(self._data.qpos[self._valve])

    def grip_pose(self, angle: float) -> Array:
        """Returns the tool's pose ``[4, 4]`` in the world that takes a lever at this angle [rad]."""
        turned = axis_angle_to_matrix(np.array([angle - 0.5 * RANGE, 0.0, 0.0]))
        return self.fixture_pose @ pose_matrix(
            np.add(PIVOT, GRIP_RADIUS * _direction(angle)), turned @ self.tool
        )

    def done(self) -> bool:
        """Returns whether the lever has made its quarter turn."""
        return self.angle >= SUCCESS_ANGLE

    def progress(self) -> float:
        """Returns how far the task is: 0.2 for reaching the lever, 0.75 for turning it."""
        reach = np.linalg.norm(self._robot.tcp_pose[:3, 3] - self.grip_pose(self.angle)[:3, 3])
        turned = min(self.angle / SUCCESS_ANGLE, 1.0)
        return 0.2 * max(nearness(float(reach)), turned) + 0.75 * turned


def _direction(angle: float) -> Array:
    """Returns where the lever points (3) in the fixture's frame: from the upper left to the upper right."""
    return np.array([0.0, -math.sin(angle - 0.5 * RANGE), math.cos(angle - 0.5 * RANGE)])


class RotateValveEnv(ManipulationEnv):
    """The task as a Gymnasium environment, see ``ManipulationEnv``."""

    scene: RotateValveScene

    def __init__(self, config: RotateValveConfig | None = None, render_mode: str | None = None) -> None:
        super().__init__(config or RotateValveConfig(), RotateValveScene(), render_mode)
