"""Gathering of training batches beside the bare numpy indexing that it cannot beat.

Data in memory as in Push-T: 206 episodes of 125 steps, two 96x96x3 images and positions observed, 16 actions.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.store.episode import NewEpisode
from robopolicy_datasets.windows import KeyWindow, WindowSampler
from robopolicy_launch.benchmarks import Row
from robopolicy_launch.benchmarks._timing import side_by_side, threads

OBSERVED, HORIZON = 2, 16
POSITION = Feature("agent_pos", (2,), kind="position", unit="px")
ACTION = Feature("action", (2,), kind="position", unit="px")


def run(
    *,
    episodes: int = 206,
    steps: int = 125,
    image: int = 96,
    batch: int = 64,
    calls: int = 20,
    seconds: float = 5.0,
) -> Iterator[Row]:
    """Measures batches with and without images.

    Args:
        episodes: in the store.
        steps: in an episode.
        image: width and height of the images [px].
        batch: windows in a batch.
        calls: batches gathered between two looks at the clock.
        seconds: to spend on each row.
    """
    pictures = Feature("camera0_rgb", (image, image, 3), "uint8", "rgb")
    spec = Spec((POSITION, pictures), (ACTION,))
    with tempfile.TemporaryDirectory() as folder, threads(1):
        store = _store(Path(folder) / "bench.zarr", spec, episodes, steps)
        for name, keys in (("image", [pictures.key, POSITION.key]), ("lowdim", [POSITION.key])):
            seen, done = KeyWindow.past(OBSERVED), KeyWindow(1 - OBSERVED, HORIZON)
            sampler = WindowSampler(store, observation=dict.fromkeys(keys, seen), action=done)
            floor = _floor([store.array(key) for key in keys], store.array(ACTION.key))
            order = np.random.default_rng(0)
            windows = order.integers(0, len(sampler), (calls, batch))
            starts = order.integers(0, store.num_steps - HORIZON, (calls, batch))
            times = side_by_side(
                _each(sampler.gather, windows), _each(floor, starts), seconds=seconds, least=5
            )
            ours, reference = (milliseconds * 1e3 / calls for milliseconds in times)
            yield Row(f"loader_{name}_b{batch}", ours, reference, "us", "numpy indexing alone")


def _each(gather: Callable[[Any], Any], batches: np.ndarray) -> Callable[[], None]:
    def call() -> None:
        for indices in batches:
            gather(indices)

    return call


def _floor(observed: list[np.ndarray], action: np.ndarray) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Indexes the arrays with consecutive rows, whatever episode they belong to."""
    seen, done = np.arange(OBSERVED), np.arange(HORIZON)

    def gather(starts: np.ndarray) -> list[np.ndarray]:
        rows = starts[:, None]
        return [np.take(array, rows + seen, axis=0) for array in observed] + [
            np.take(action, rows + done, axis=0)
        ]

    return gather


def _store(path: Path, spec: Spec, episodes: int, steps: int) -> DemoStore:
    """Makes a store of random numbers; images of one colour, which are quick to write and read."""
    random = np.random.default_rng(0)
    store = DemoStore.create(path, spec, rate_hz=10.0)
    for first in range(0, episodes, 50):  # one commit for many episodes
        store.append_episodes(
            [_episode(spec, steps, random) for _ in range(first, min(first + 50, episodes))]
        )
    return store


def _episode(spec: Spec, steps: int, random: np.random.Generator) -> NewEpisode:
    data: dict[str, np.ndarray] = {}
    for feature in spec.features:
        if feature.is_image:
            colours = random.integers(0, 256, (steps, 1, 1, 3), dtype=np.uint8)
            data[feature.key] = np.broadcast_to(colours, (steps, *feature.shape)).copy()
        else:
            data[feature.key] = random.random((steps, *feature.shape), dtype=np.float32)
    return NewEpisode(data)
