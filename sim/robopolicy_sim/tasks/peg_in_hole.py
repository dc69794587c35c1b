"""Peg in hole: a peg of 1 cm stands in a holder and goes into a hole of 2 cm, as in UMI-on-Air.

A peg that falls lies too low for a tool that looks forward: the episode is lost, as it was in the paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from robopolicy_datasets.geometry import Array
from robopolicy_sim.tasks.configs import PegInHoleConfig
from robopolicy_sim.tasks.manipulation import ManipulationEnv
from robopolicy_sim.worlds.body import Body
from robopolicy_sim.worlds.contacts import ContactForce
from robopolicy_sim.worlds.fixture_scene import FixtureScene, nearness
from robopolicy_sim.worlds.mjcf import Element, add, add_geom, section
from robopolicy_sim.worlds.scene import View

PEG_RADIUS = 0.005  # [m]
PEG_LENGTH = 0.07  # [m] of the part below its handle
PEG_MASS = 0.04  # [kg]
HANDLE_HALF_SIZE = (0.011, 0.011, 0.026)  # [m]; the peg's frame is in its middle
HOLE_HALF_SIZE = 0.01  # [m]; the hole is square
HOLDER_HALF_SIZE = 0.0065  # [m] of the holder's hole
HEIGHT = 0.20  # [m] of the rims of hole and holder above the table
HOLE_DEPTH, HOLDER_DEPTH = 0.05, 0.04  # [m]
COLUMN_HALF_SIZE = 0.03  # [m]
CHAMFER = 0.012  # [m] width and height of the slopes around the hole
SUCCESS_DEPTH = 0.03  # [m] of the peg's tip below the rim
TIP = HANDLE_HALF_SIZE[2] + PEG_LENGTH  # [m] below the middle of the handle


class PegInHoleScene(FixtureScene):
    """A holder with a peg to the left, a column with a hole (the fixture) to the right."""

    name = "peg_in_hole"
    task_text = "put the peg into the hole"
    center = (0.62, 0.0, 0.31)
    extent = (0.10, 0.14, 0.05)
    stands = (0.63, -0.10)
    holder_stands = (0.63, 0.10)
    views = {  # noqa: RUF012 (never changed)
        "camera0": View((1.03, -0.42, 0.62), (0.60, 0.00, 0.23), 30.0),
        "video": View((1.30, -0.80, 0.82), (0.43, 0.00, 0.26), 37.0),
    }

    def furnish(self, root: Element, fixture: Element) -> None:
        """Adds the column with the hole, the holder and the peg."""
        _add_column(fixture, HOLE_HALF_SIZE, HOLE_DEPTH, "pad")
        _add_chamfer(fixture)
        world = section(root, "worldbody")
        holder = add(world, "body", name="holder", mocap="true", pos=(*self.holder_stands, 0))
        _add_column(holder, HOLDER_HALF_SIZE, HOLDER_DEPTH, "arm")
        peg = add(world, "body", name="peg", pos=(*self.holder_stands, HEIGHT - HOLDER_DEPTH + TIP))
        add(peg, "freejoint", name="peg")
        grip = {"priority": 1, "condim": 4, "friction": (1.5, 0.02, 0.001), "solref": (0.01, 1)}
        mass = {"mass": 0.5 * PEG_MASS}
        add_geom(peg, "box", solid=True, size=HANDLE_HALF_SIZE, material="cube", **grip, **mass)
        ends = (0, 0, 0, 0, 0, PEG_RADIUS - TIP)
        smooth = {"priority": 1, "friction": (0.3, 0.005, 0.0001)}
        shaft = {"fromto": ends, "size": PEG_RADIUS, "material": "steel"}
        add_geom(peg, "capsule", solid=True, **shaft, **smooth, **mass)

    def bind(self, model: Any, data: Any, robots: Sequence[Body]) -> None:
        """Looks up the peg and the holder."""
        super().bind(model, data, robots)
        self._holder = int(model.body("holder").mocapid[0])
        self._peg_body = model.body("peg").id
        self._peg = int(model.joint("peg").qposadr[0])
        self.contact_force = ContactForce(model, data, ["fixture"], ["peg"])

    def reset(self, random: np.random.Generator) -> None:
        """Puts the column and the holder somewhere, and the peg into the holder."""
        super().reset(random)
        self._place(random, self._holder, self.holder_stands)
        holder = self._mocap_pose(self._holder)
        peg = (*holder[:2, 3], HEIGHT - HOLDER_DEPTH + TIP + 0.0005, *self._data.mocap_quat[self._holder])
        self._data.qpos[self._peg : self._peg + 7] = peg

    @property
    def peg_pose(self) -> Array:
        """True pose ``[4, 4]`` of the peg in the world, in its handle's middle; for experts and scores."""
        return self._body_pose(self._peg_body)

    @property
    def tip(self) -> Array:
        """True position ``[3]`` of the peg's tip in the world [m]; for experts and scores."""
        pose = self.peg_pose
        return pose[:3, 3] - TIP * pose[:3, 2]

    @property
    def hole(self) -> Array:
        """True position ``[3]`` of the middle of the hole's rim in the world [m]; for experts and scores."""
        return self.fixture_pose[:3, 3] + (0.0, 0.0, HEIGHT)

    def done(self) -> bool:
        """Returns whether the peg's tip is ``SUCCESS_DEPTH`` below the hole's rim."""
        beside, depth = self._tip_at_hole()
        return beside < HOLE_HALF_SIZE and depth > SUCCESS_DEPTH

    def progress(self) -> float:
        """Returns how far the task is: 0.3 for reaching the peg, 0.65 for bringing its tip into the hole."""
        reach = float(np.linalg.norm(self._robot.tcp_pose[:3, 3] - self.peg_pose[:3, 3]))
        beside, depth = self._tip_at_hole()
        brought = nearness(math.hypot(beside, max(SUCCESS_DEPTH - depth, 0.0)))
        return 0.3 * max(nearness(reach), brought) + 0.65 * brought

    def _tip_at_hole(self) -> tuple[float, float]:
        """Returns how far the tip is beside the hole's middle and below its rim [m]."""
        away = self.hole - self.tip
        return float(np.hypot(*away[:2])), float(away[2])


def _add_column(body: Element, hole: float, depth: float, material: str) -> None:
    """Adds a square column with a square hole of half size ``hole`` in its top."""
    wall = 0.5 * (COLUMN_HALF_SIZE - hole)
    middle = HEIGHT - 0.5 * depth
    for side in (-1.0, 1.0):
        across = {"size": (wall, COLUMN_HALF_SIZE, 0.5 * depth), "pos": (side * (hole + wall), 0, middle)}
        along = {"size": (hole, wall, 0.5 * depth), "pos": (0, side * (hole + wall), middle)}
        add_geom(body, "box", solid=True, material=material, **across)
        add_geom(body, "box", solid=True, material=material, **along)
    below = 0.5 * (HEIGHT - depth)
    trunk = {"size": (COLUMN_HALF_SIZE, COLUMN_HALF_SIZE, below), "pos": (0, 0, below)}
    add_geom(body, "box", solid=True, material=material, **trunk)
    foot = (1.6 * COLUMN_HALF_SIZE, 1.6 * COLUMN_HALF_SIZE, 0.006)
    add_geom(body, "box", size=foot, pos=(0, 0, 0.006), material="dark")


def _add_chamfer(body: Element) -> None:
    """Adds four slopes at 45 degrees that lead from the column's edges down to the hole."""
    thickness = 0.003
    for number in range(4):
        angle = 0.5 * math.pi * number
        # The slope's upper face runs from the hole's rim outwards and up; its box lies below that face.
        out, up = HOLE_HALF_SIZE + 0.5 * CHAMFER, HEIGHT + 0.5 * CHAMFER
        out, up = out + thickness * math.sqrt(0.5), up - thickness * math.sqrt(0.5)
        add_geom(
            body,
            "box",
            solid=True,
            size=(0.5 * CHAMFER * math.sqrt(2.0), HOLE_HALF_SIZE + CHAMFER, thickness),
            pos=(out * math.cos(angle), out * math.sin(angle), up),
            xyaxes=(
                *(math.cos(angle), math.sin(angle), 1.0),
                *(-math.sin(angle), math.cos(angle), 0.0),
            ),
            material="pad_centre",
        )


class PegInHoleEnv(ManipulationEnv):
    """The task as a Gymnasium environment, see ``ManipulationEnv``."""

    scene: PegInHoleScene

    def __init__(self, config: PegInHoleConfig | None = None, render_mode: str | None = None) -> None:
        super().__init__(config or PegInHoleConfig(), PegInHoleScene(), render_mode)
