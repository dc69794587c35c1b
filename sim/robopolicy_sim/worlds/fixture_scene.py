"""Scenes in which a tool that looks forward works on a fixture that stands on the table in front of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from robopolicy_datasets.geometry import Array, pose_matrix, quaternion_to_matrix
from robopolicy_drivers.embodiments import Embodiment, Pose
from robopolicy_sim.worlds.body import Body
from robopolicy_sim.worlds.mjcf import Element, add, section
from robopolicy_sim.worlds.scene import TOOL_FORWARD, Scene
from robopolicy_sim.worlds.scenery import add_table

STAND_BACK = 0.26  # [m] that arms stand behind where their home is over the middle: a wrist takes room
HELD_SECONDS = 0.1  # that success must last, as in UMI-on-Air (arXiv 2510.02614, released code)


class FixtureScene(Scene):
    """A fixture on a table. Its frame: origin on the table, x away from the robot, y to its left, z up.

    The fixture is the mocap body ``fixture``, so that where it stands is part of the physics state; so is
    for how long the task has been done, in ``userdata``.

    Attributes:
        stands: where the fixture is on average, on the table (2) [m].
        area: extent of its places along x and y (2) [m].
        largest_turn: of the fixture to either side [rad].
    """

    tool = TOOL_FORWARD
    start = (-0.12, 0.0, 0.02)

    stands: ClassVar[tuple[float, float]]
    area: ClassVar[tuple[float, float]] = (0.06, 0.08)
    largest_turn: ClassVar[float] = 0.15

    def build(self, root: Element) -> None:
        """Adds the table and the fixture."""
        add(root, "size", nuserdata=1)
        add_table(root)
        fixture = add(section(root, "worldbody"), "body", name="fixture", mocap="true", pos=(*self.stands, 0))
        self.furnish(root, fixture)

    @abstractmethod
    def furnish(self, root: Element, fixture: Element) -> None:
        """Adds what the fixture consists of to its body, and all other objects to the document."""

    def bind(self, model: Any, data: Any, robots: Sequence[Body]) -> None:
        """Looks up the fixture."""
        self._data, self._robot = data, robots[0]
        self._fixture = int(model.body("fixture").mocapid[0])

    def reset(self, random: np.random.Generator) -> None:
        """Puts the fixture somewhere."""
        self._place(random, self._fixture, self.stands)

    def advance(self, seconds: float) -> None:
        """Counts for how long the task has been done."""
        self._data.userdata[0] = self._data.userdata[0] + seconds if self.done() else 0.0

    @abstractmethod
    def done(self) -> bool:
        """Returns whether the task is done at this moment."""

    def success(self) -> bool:
        """Returns whether the task is done and has been for ``HELD_SECONDS``."""
        return self.done() and bool(self._data.userdata[0] >= HELD_SECONDS - 1e-6)

    @property
    def fixture_pose(self) -> Array:
        """True pose ``[4, 4]`` of the fixture in the world; for experts and scores."""
        return self._mocap_pose(self._fixture)

    def base_pose(self, embodiment: Embodiment, number: int) -> Pose:
        """Returns where robot ``number`` stands: further back than where a tool that looks down would be."""
        pose = super().base_pose(embodiment, number)
        if embodiment.base:
            return pose
        x, y, z = pose.position
        return Pose((round(x - STAND_BACK, 3), y, z), pose.quaternion)

    def _place(self, random: np.random.Generator, mocap: int, middle: tuple[float, float]) -> None:
        """Puts a mocap body on the table at random, around ``middle``."""
        place = middle + random.uniform(-0.5, 0.5, 2) * self.scale * np.array(self.area)
        half = 0.5 * random.uniform(-self.largest_turn, self.largest_turn)
        self._data.mocap_pos[mocap] = (*place, 0.0)
        self._data.mocap_quat[mocap] = (np.cos(half), 0.0, 0.0, np.sin(half))

    def _mocap_pose(self, mocap: int) -> Array:
        rotation = quaternion_to_matrix(self._data.mocap_quat[mocap])
        return pose_matrix(self._data.mocap_pos[mocap], rotation)

    def _body_pose(self, body: int) -> Array:
        return pose_matrix(self._data.xpos[body], self._data.xmat[body].reshape(3, 3))


def nearness(distance: float, scale: float = 0.3) -> float:
    """Returns 1 at a distance [m] of 0, falling evenly to 0 at ``scale`` [m]."""
    return min(max(1.0 - distance / scale, 0.0), 1.0)
