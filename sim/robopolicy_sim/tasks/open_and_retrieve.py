"""Open and retrieve: the door of a cabinet is slid aside and the can behind it brought out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from robopolicy_datasets.geometry import Array, invert_pose, pose_matrix
from robopolicy_sim.tasks.configs import OpenAndRetrieveConfig
from robopolicy_sim.tasks.manipulation import ManipulationEnv
from robopolicy_sim.worlds.body import Body
from robopolicy_sim.worlds.contacts import ContactForce
from robopolicy_sim.worlds.fixture_scene import FixtureScene, nearness
from robopolicy_sim.worlds.mjcf import Element, add, add_geom, section
from robopolicy_sim.worlds.scene import View

WIDTH, DEPTH = 0.46, 0.16  # [m] of the cabinet
FLOOR, CEILING = 0.26, 0.46  # [m] of its compartment above the table
BOARD = 0.006  # [m] half the thickness of its boards
DOOR_HALF_WIDTH = 0.115  # [m]
TRAVEL = 0.215  # [m] of the door, to the right
HANDLE = (-0.062, 0.12, 0.35)  # [m] where it is taken, with the door closed
HANDLE_HALF_HEIGHT = 0.045  # [m]
CAN_RADIUS, CAN_HALF_HEIGHT, CAN_MASS = 0.02, 0.045, 0.08  # [m], [m], [kg]
CAN_STANDS = (0.06, 0.13)  # [m] on average, in the fixture's frame
CAN_AREA = (0.03, 0.04)  # [m] extent of its places
OPEN = 0.195  # [m] that the door must be open for a hand
SUCCESS_DISTANCE = 0.1  # [m] of the can before the cabinet


class OpenAndRetrieveScene(FixtureScene):
    """A cabinet, its left half behind a sliding door, and a can in it."""

    name = "open_and_retrieve"
    task_text = "open the cabinet and take out the can"
    center = (0.62, 0.03, 0.34)
    start = (-0.16, 0.0, 0.05)
    extent = (0.12, 0.16, 0.04)
    stands = (0.63, 0.0)
    views = {  # noqa: RUF012 (never changed)
        "camera0": View((0.12, -0.42, 0.74), (0.62, 0.02, 0.32), 40.0),
        "video": View((0.21, -1.20, 0.90), (0.43, 0.00, 0.27), 39.0),
    }

    def furnish(self, root: Element, fixture: Element) -> None:
        """Adds the cabinet, its door, and the can."""
        _add_cabinet(fixture)
        _add_door(fixture)
        place = (self.stands[0] + CAN_STANDS[0], CAN_STANDS[1], FLOOR + CAN_HALF_HEIGHT)
        can = add(section(root, "worldbody"), "body", name="can", pos=place)
        add(can, "freejoint", name="can")
        grip = {"priority": 1, "condim": 4, "friction": (1.5, 0.02, 0.001), "solref": (0.01, 1)}
        size = (CAN_RADIUS, CAN_HALF_HEIGHT)
        add_geom(can, "cylinder", solid=True, size=size, material="cube", mass=CAN_MASS, **grip)
        for side in (-1.0, 1.0):
            place = (0, 0, side * (CAN_HALF_HEIGHT - 0.0028))
            add_geom(can, "cylinder", size=(1.02 * CAN_RADIUS, 0.003), pos=place, material="steel")

    def bind(self, model: Any, data: Any, robots: Sequence[Body]) -> None:
        """Looks up the door and the can."""
        super().bind(model, data, robots)
        self._door = int(model.joint("door").qposadr[0])
        self._can_body = model.body("can").id
        self._can = int(model.joint("can").qposadr[0])
        self.contact_force = ContactForce(model, data, ["hand"], ["fixture"])

    def reset(self, random: np.random.Generator) -> None:
        """Puts the cabinet somewhere, closed, the can in it."""
        super().reset(random)
        inside = CAN_STANDS + random.uniform(-0.5, 0.5, 2) * np.array(CAN_AREA)
        place = self.fixture_pose @ (*inside, FLOOR + CAN_HALF_HEIGHT, 1.0)
        self._data.qpos[self._can : self._can + 7] = (*place[:3], 1.0, 0.0, 0.0, 0.0)

    @property
    def opening(self) -> float:
        """How far the door is open [m]; for experts and scores."""
        return float(self._data.qpos[self._door])

    @property
    def can_position(self) -> Array:
        """True position ``[3]`` of the can in the frame of the cabinet [m]; for experts and scores."""
        return (invert_pose(self.fixture_pose) @ (*self._data.xpos[self._can_body], 1.0))[:3]

    def handle_pose(self, opening: float) -> Array:
        """Returns the tool's pose ``[4, 4]`` in the world that takes the handle of a door open so far [m]."""
        return self.fixture_pose @ pose_matrix(np.subtract(HANDLE, (0.0, opening, 0.0)), self.tool)

    def done(self) -> bool:
        """Returns whether the can is out of the cabinet, in the hand."""
        tool = invert_pose(self.fixture_pose) @ self._robot.tcp_pose
        held = bool(np.linalg.norm(tool[:3, 3] - self.can_position) < 0.05)
        return held and bool(self.can_position[0] < -SUCCESS_DISTANCE)

    def progress(self) -> float:
        """Returns how far the task is: 0.4 for the door (0.1 to reach it), 0.55 for the can (0.15)."""
        tool = (invert_pose(self.fixture_pose) @ self._robot.tcp_pose)[:3, 3]
        opened = min(self.opening / OPEN, 1.0)
        at_handle = np.linalg.norm(tool - HANDLE + (0.0, self.opening, 0.0))
        out = min(max((CAN_STANDS[0] - self.can_position[0]) / (CAN_STANDS[0] + SUCCESS_DISTANCE), 0.0), 1.0)
        at_can = opened * nearness(float(np.linalg.norm(tool - self.can_position)))
        reached = 0.1 * max(nearness(float(at_handle)), opened) + 0.15 * max(at_can, out)
        return reached + 0.3 * opened + 0.4 * out


def _add_cabinet(fixture: Element) -> None:
    half, middle, depth = 0.5 * WIDTH, 0.5 * (FLOOR + CEILING), 0.5 * DEPTH
    tall = 0.5 * (CEILING - FLOOR)
    plinth = {"size": (depth, half, 0.5 * FLOOR), "pos": (depth, 0, 0.5 * FLOOR)}
    roof = {"size": (depth, half, BOARD), "pos": (depth, 0, CEILING + BOARD)}
    back = {"size": (BOARD, half - BOARD, tall), "pos": (DEPTH - 2 * BOARD, 0, middle)}
    cover = {"size": (BOARD, 0.25 * WIDTH - BOARD, tall), "pos": (BOARD, -0.25 * WIDTH, middle)}
    for part in (plinth, roof, back, cover):
        add_geom(fixture, "box", solid=True, material="panel", **part)
    for y in (-half + BOARD, 0.0, half - BOARD):
        side = {"size": (depth, BOARD, tall), "pos": (depth, y, middle)}
        add_geom(fixture, "box", solid=True, material="panel", **side)
    for height in (FLOOR - 0.006, CEILING + 0.006):
        rail = (0.014, half, 0.006)
        add_geom(fixture, "box", size=rail, pos=(-0.014, 0, height), material="dark")


def _add_door(fixture: Element) -> None:
    tall = 0.5 * (CEILING - FLOOR)
    door = add(fixture, "body", name="door", pos=(-0.009, HANDLE[1], 0.5 * (FLOOR + CEILING)))
    slide = {"axis": (0, -1, 0), "range": (0, TRAVEL), "frictionloss": 1.5, "damping": 8.0}
    add(door, "joint", name="door", type="slide", **slide)
    size = (0.007, DOOR_HALF_WIDTH, tall)
    add_geom(door, "box", solid=True, size=size, mass=0.6, material="accent")
    x, z = HANDLE[0] + 0.009, HANDLE[2] - 0.5 * (FLOOR + CEILING)
    grip = {"priority": 1, "friction": (1.0, 0.02, 0.001), "solref": (0.01, 1)}
    bar = {"size": (0.008, 0.008, HANDLE_HALF_HEIGHT), "pos": (x, 0, z)}
    add_geom(door, "box", solid=True, material="finger", mass=0.05, **bar, **grip)
    for side in (-1.0, 1.0):
        height = z + side * (HANDLE_HALF_HEIGHT - 0.008)
        ends = (x, 0, height, 0, 0, height)
        add_geom(door, "capsule", fromto=ends, size=0.006, material="dark")


class OpenAndRetrieveEnv(ManipulationEnv):
    """The task as a Gymnasium environment, see ``ManipulationEnv``."""

    scene: OpenAndRetrieveScene

    def __init__(self, config: OpenAndRetrieveConfig | None = None, render_mode: str | None = None) -> None:
        super().__init__(config or OpenAndRetrieveConfig(), OpenAndRetrieveScene(), render_mode)
