"""Gathering of training batches beside the bare numpy indexing that it cannot beat.

Data in memory as in Push-T: 206 episodes of 125 steps, two 96x96x3 images and positions observed, 16 actions.
And a force sensor at 1 kHz, of which windows show 16 points in the last tenth of a second.
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
from robopolicy_datasets.store.streams import Stream
from robopolicy_datasets.windows import KeyWindow, Resampled, WindowSampler
from robopolicy_launch.benchmarks import Row
from robopolicy_launch.benchmarks._timing import side_by_side, threads

OBSERVED, HORIZON = 2, 16
POSITION = Feature("agent_pos", (2,), kind="position", unit="px")
ACTION = Feature("action", (2,), kind="position", unit="px")
WRENCH = Feature("robot0_wrench", (6,), kind="wrench", unit="N, N m", rate_hz=1000.0)
TOUCH = Resampled(16, before_s=0.1)
SHOWN, DONE = KeyWindow.past(OBSERVED), KeyWindow(1 - OBSERVED, HORIZON)


def run(
    *,
    episodes: int = 206,
    steps: int = 125,
    image: int = 96,
    batch: int = 64,
    calls: int = 20,
    seconds: float = 5.0,
) -> Iterator[Row]:
    """Measures batches with and without images, and with a stream.

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
    order = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, threads(1):
        store = _store(Path(folder) / "bench.zarr", spec, episodes, steps)
        for name, keys in (("image", [pictures.key, POSITION.key]), ("lowdim", [POSITION.key])):
            sampler = WindowSampler(store, observation=dict.fromkeys(keys, SHOWN), action=DONE)
            floor = _floor([store.array(key) for key in keys], store.array(ACTION.key))
            windows = order.integers(0, len(sampler), (calls, batch))
            starts = order.integers(0, store.num_steps - HORIZON, (calls, batch))
            times = side_by_side(
                _each(sampler.gather, windows), _each(floor, starts), seconds=seconds, least=5
            )
            ours, reference = (milliseconds * 1e3 / calls for milliseconds in times)
            yield Row(f"loader_{name}_b{batch}", ours, reference, "us", "numpy indexing alone")
        touch = _touch_store(Path(folder) / "touch.zarr", max(1, episodes // 10), steps)
        sampler = WindowSampler(touch, observation={}, action=DONE, streams={WRENCH.key: TOUCH})
        windows = order.integers(0, len(sampler), (calls, batch))
        loop = _touch_loop(touch)
        times = side_by_side(_each(sampler.gather, windows), _each(loop, windows), seconds=seconds, least=2)
        ours, reference = (milliseconds * 1e3 / calls for milliseconds in times)
        yield Row(f"loader_stream_b{batch}", ours, reference, "us", "np.interp, window by window")


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


def _touch_store(path: Path, episodes: int, steps: int) -> DemoStore:
    """Makes a store of random numbers with samples at 1 kHz beside the steps."""
    random = np.random.default_rng(0)
    store = DemoStore.create(path, Spec((), (ACTION,)), rate_hz=10.0, streams=[WRENCH])
    time_ns = np.arange(100 * steps, dtype=np.int64) * 1_000_000
    recordings = []
    for _ in range(episodes):
        samples = Stream(random.random((len(time_ns), 6), dtype=np.float32), time_ns)
        action = {ACTION.key: random.random((steps, 2), dtype=np.float32)}
        recordings.append(NewEpisode(action, streams={WRENCH.key: samples}))
    store.append_episodes(recordings)
    return store


def _touch_loop(store: DemoStore) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Does by hand what is done for a batch, in a loop over windows and components."""
    streams = [store.stream(WRENCH.key, index) for index in range(len(store))]
    time, action = store.array("time_ns"), store.array(ACTION.key)
    points = np.round(1e9 * np.linspace(-TOUCH.before_s, TOUCH.after_s, TOUCH.samples)).astype(np.int64)
    offsets = np.arange(HORIZON) + 1 - OBSERVED

    def gather(presents: np.ndarray) -> list[np.ndarray]:
        values = []
        for present in presents:
            stream = streams[np.searchsorted(store.episode_ends, present, side="right")]
            at = time[present] + points
            low, high = stream.time_ns.searchsorted(at[[0, -1]])
            near = slice(max(low - 1, 0), high + 1)
            parts = [np.interp(at, stream.time_ns[near], part) for part in stream.value[near].T]
            values.append(np.stack(parts, axis=-1))
        return [np.stack(values), np.take(action, presents[:, None] + offsets, axis=0, mode="clip")]

    return gather
