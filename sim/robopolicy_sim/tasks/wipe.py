"""Wiping: an eraser is pressed along a tilted board until its ink is gone; after RDP's wiping of a vase."""

from __future__ import annotations

import numpy as np

from robopolicy_datasets.geometry import Array, pose_matrix
from robopolicy_sim.tasks.configs import WipeConfig
from robopolicy_sim.tasks.manipulation import ManipulationEnv
from robopolicy_sim.tasks.surface import SurfaceScene
from robopolicy_sim.worlds.mjcf import Element, add_geom
from robopolicy_sim.worlds.scene import View

BOARD_HALF_SIZE = (0.12, 0.075, 0.006)  # [m]
MARK_SPACING = 0.02  # [m]
MARKS = (8, 3)  # along and across the stroke
INK = (0.13, 0.25, 0.66, 1.0)


def _grid() -> Array:
    along, across = (MARK_SPACING * (np.arange(count) - 0.5 * (count - 1)) for count in MARKS)
    places = np.stack(np.meshgrid(along, across, indexing="ij"), axis=-1)
    places[..., 0] += MARK_SPACING / MARKS[1] * (np.arange(MARKS[1]) - 1)  # they vanish one by one
    return places.reshape(-1, 2)


class WipeScene(SurfaceScene):
    """A table with an eraser and a small whiteboard with ink on it; the board's frame is on top of it."""

    name = "wipe"
    task_text = "wipe the ink off the board"
    center = (0.46, 0.02, 0.09)
    extent = (0.06, 0.18, 0.02)
    start = (0.0, 0.0, 0.18)
    views = {  # noqa: RUF012 (never changed)
        "camera0": View((0.98, 0.03, 0.60), (0.455, 0.03, 0.06), 40.0),
        "video": View((1.16, -0.62, 0.66), (0.40, 0.0, 0.13), 33.0),
    }

    sole = (0.02, 0.042)
    works = (0.008, 0.042)
    wanted_force = 5.0
    force_band = (2.0, 9.0)
    needed = 0.95
    appears = False
    mark_places = _grid()
    tool_place = (0.46, -0.17)
    surface_place = (0.46, 0.07, 0.06)

    def frame_at(self, along: float, across: float) -> Array:
        """See ``SurfaceScene``: the board is flat."""
        return pose_matrix(np.array([along, across, 0.0]), np.eye(3))

    def build_surface(self, surface: Element) -> None:
        """See ``SurfaceScene``."""
        x, y, z = BOARD_HALF_SIZE
        add_geom(surface, "box", solid=True, pos=(0, 0, -z), size=BOARD_HALF_SIZE, rgba=(0.95, 0.95, 0.93, 1))
        frame = (x + 0.006, y + 0.006, z)
        add_geom(surface, "box", pos=(0, 0, -z - 0.001), size=frame, material="dark")
        add_geom(
            surface,
            "cylinder",
            fromto=(0, 0, -2 * z, 0, 0, -self.surface_place[2]),
            size=0.02,
            material="arm",
        )

    def build_mark(self, mark: Element) -> None:
        """See ``SurfaceScene``: a dab of ink."""
        add_geom(mark, "ellipsoid", size=(0.012, 0.009, 0.0008), rgba=INK)


class WipeEnv(ManipulationEnv):
    """The task as a Gymnasium environment, see ``ManipulationEnv``."""

    scene: WipeScene

    def __init__(self, config: WipeConfig | None = None, render_mode: str | None = None) -> None:
        config = config or WipeConfig()
        super().__init__(config, WipeScene(config.surface), render_mode)
