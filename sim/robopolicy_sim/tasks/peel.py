"""Peeling: a peeler is pressed along a cucumber with a wanted force; RDP's first task (arXiv 2503.02881)."""

from __future__ import annotations

import numpy as np

from robopolicy_datasets.geometry import Array, pose_matrix
from robopolicy_sim.tasks.configs import PeelConfig
from robopolicy_sim.tasks.manipulation import ManipulationEnv
from robopolicy_sim.tasks.surface import SurfaceScene
from robopolicy_sim.worlds.mjcf import Element, add_geom
from robopolicy_sim.worlds.scene import View

HALF_LENGTH = 0.15  # [m] of the cucumber
RADIUS = 0.032  # [m]
MARK_SPACING = 0.01  # [m]
MARKS = 16
SKIN = (0.16, 0.40, 0.13, 1.0)
FLESH = (0.80, 0.90, 0.62, 1.0)


class PeelScene(SurfaceScene):
    """A table with a peeler and a cucumber on two posts; a strip along its top is to be peeled.

    The cucumber's frame is in the middle of its top, x along it.
    """

    name = "peel"
    task_text = "peel the cucumber"
    center = (0.46, 0.02, 0.09)
    extent = (0.06, 0.18, 0.02)
    start = (0.0, 0.0, 0.18)
    views = {  # noqa: RUF012 (never changed)
        "camera0": View((0.98, 0.03, 0.60), (0.455, 0.03, 0.06), 40.0),
        "video": View((1.16, -0.62, 0.66), (0.40, 0.0, 0.13), 33.0),
    }

    sole = (0.016, 0.025)
    works = (0.008, 0.025)
    wanted_force = 5.0
    force_band = (2.0, 9.0)
    needed = 0.9
    appears = True
    mark_places = np.stack([MARK_SPACING * (np.arange(MARKS) - 0.5 * (MARKS - 1)), np.zeros(MARKS)], axis=1)
    tool_place = (0.46, -0.17)
    surface_place = (0.46, 0.07, 0.08)

    def frame_at(self, along: float, across: float) -> Array:
        """See ``SurfaceScene``: on the ellipsoid's ridge."""
        share = float(np.clip(along / HALF_LENGTH, -0.95, 0.95))
        height = RADIUS * np.sqrt(1.0 - share**2)
        slope = -RADIUS / HALF_LENGTH * share / np.sqrt(1.0 - share**2)
        tangent = np.array([1.0, 0.0, slope]) / np.hypot(1.0, slope)
        normal = np.array([-tangent[2], 0.0, tangent[0]])
        rotation = np.stack([tangent, [0.0, 1.0, 0.0], normal], axis=1)
        return pose_matrix(np.array([share * HALF_LENGTH, across, height - RADIUS]), rotation)

    def build_surface(self, surface: Element) -> None:
        """See ``SurfaceScene``."""
        middle = (0, 0, -RADIUS)
        size = (HALF_LENGTH, RADIUS, RADIUS)
        add_geom(surface, "ellipsoid", solid=True, pos=middle, size=size, rgba=SKIN)
        for x in (-0.6 * HALF_LENGTH, 0.6 * HALF_LENGTH):
            low, high = -self.surface_place[2], -1.5 * RADIUS
            for y in (-0.015, 0.015):
                add_geom(surface, "capsule", fromto=(x, 2 * y, low, x, y, high), size=0.006, material="dark")
        add_geom(
            surface,
            "box",
            pos=(0, 0, 0.004 - self.surface_place[2]),
            size=(0.13, 0.05, 0.004),
            material="arm",
        )

    def build_mark(self, mark: Element) -> None:
        """See ``SurfaceScene``: a piece of flesh."""
        add_geom(mark, "ellipsoid", size=(0.009, 0.011, 0.0025), rgba=FLESH)


class PeelEnv(ManipulationEnv):
    """The task as a Gymnasium environment, see ``ManipulationEnv``."""

    scene: PeelScene

    def __init__(self, config: PeelConfig | None = None, render_mode: str | None = None) -> None:
        config = config or PeelConfig()
        super().__init__(config, PeelScene(config.surface), render_mode)
