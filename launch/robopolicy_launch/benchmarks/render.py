"""Drawing of camera images beside MuJoCo's own renderer, with our fast settings and with its defaults.

The ratios are times: 1.1 is a tenth slower than the reference.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from robopolicy_launch.benchmarks import Row
from robopolicy_launch.benchmarks._timing import side_by_side, threads
from robopolicy_sim.rendering import import_mujoco
from robopolicy_sim.tasks.pick_place import PickPlaceScene
from robopolicy_sim.worlds.world import World

CAMERA = "camera0"


def run(*, sizes: tuple[int, ...] = (64, 224), seconds: float = 4.0) -> Iterator[Row]:
    """Measures images of the pick-and-place table.

    Args:
        sizes: widths and heights [px].
        seconds: to spend on each row.
    """
    world = World(PickPlaceScene())
    with threads(1):
        for size in sizes:
            for name, compared_with in (("fast", "mujoco.Renderer, fast"), ("default", "mujoco.Renderer")):
                bare = _bare(world, size, fast=name == "fast")
                draw = partial(world.render, CAMERA, size, size)
                ours, reference = side_by_side(draw, bare, seconds=seconds, least=5)
                yield Row(f"render_{name}_{size}", ours, reference, "ms", compared_with)


def _bare(world: World, size: int, *, fast: bool) -> Callable[[], np.ndarray]:
    model = copy.copy(world.model)
    model.vis.quality.offsamples, model.vis.quality.shadowsize = (0, 0) if fast else (4, 4096)
    renderer = import_mujoco().Renderer(model, size, size)

    def draw() -> np.ndarray:
        renderer.update_scene(world.data, CAMERA)
        return renderer.render()

    return draw
