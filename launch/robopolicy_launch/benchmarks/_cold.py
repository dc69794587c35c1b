"""A raw store that is larger than what the system keeps of it: random windows beside ``pread``.

The windows are read in a process of their own, so that its memory can be measured:
``python -m robopolicy_launch.benchmarks._cold STORE WINDOWS PASSES``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_launch.benchmarks import Row

KEY, ACTION, WINDOW = "camera0_rgb", Feature("action", (2,)), 2
_PASSES = 6
_EPISODE = 220  # frames: whole shards of 224 x 224 images
_SPARE_BYTES = 1 << 30  # for the other rows of the suite, and what else the machine does


def check_room(folder: Path, size: int) -> None:
    """Checks that a store of ``size`` bytes fits into ``folder``.

    Raises:
        ConfigError: it does not.
    """
    needed, free = size + _SPARE_BYTES, shutil.disk_usage(folder).free
    if free < needed:
        raise ConfigError(
            f"The suite writes {needed / 1e9:.1f} GB into {folder.parent}, where {free / 1e9:.1f} GB are "
            "free. Make room there, or let the variable TMPDIR name a folder on another disk."
        )


def run(path: Path, images: NDArray[np.uint8], size: int, windows: int) -> Iterator[Row]:
    """Measures random windows of a store that is dropped from memory before every pass.

    Args:
        path: of the new store.
        images: ``[N, height, width, 3]``, repeated until it is large enough.
        size: of the store [bytes].
        windows: in a pass.
    """
    _write(path, images, size)
    command = [sys.executable, "-m", __name__, str(path), str(windows), str(_PASSES)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    yield Row("store_cold", found["ours_us"], found["pread_us"], "us", "pread at the same offsets")
    stored = sum(file.stat().st_size for file in _files(path)) / 1e6
    yield Row("store_cold_resident", found["resident_mb"], stored, "MB", "the store")


def _write(path: Path, images: NDArray[np.uint8], size: int) -> None:
    spec = Spec((Feature(KEY, images.shape[1:], "uint8", kind="rgb"),), (ACTION,))
    store = DemoStore.create(path, spec, rate_hz=10.0, codecs={KEY: "raw"})
    episode = np.resize(images, (_EPISODE, *images.shape[1:]))
    action = np.zeros((_EPISODE, *ACTION.shape), np.float32)
    for _ in range(max(1, size // episode.nbytes)):
        store.append_episode({KEY: episode, ACTION.key: action})


def _files(path: Path) -> list[Path]:
    return sorted((path / "data" / KEY).glob("c.*"), key=lambda file: int(file.name.split(".")[1]))


def _measure(path: Path, windows: int, passes: int) -> dict[str, float]:
    """Returns medians over passes [us a window], and by how much the process grew at most [MB]."""
    before = _most_resident()
    store = DemoStore.open(path)
    descriptors = [os.open(file, os.O_RDONLY) for file in _files(path)]
    readers = {"ours_us": _by_store(store), "pread_us": _by_hand(store, descriptors)}
    random = np.random.default_rng(0)
    taken: dict[str, list[float]] = {name: [] for name in readers}
    for number in range(passes):
        starts = random.integers(0, store.num_steps - WINDOW, windows).tolist()
        for name in sorted(readers, reverse=bool(number % 2)):
            taken[name].append(_cold_pass(readers[name], starts, descriptors))
    figures = {name: statistics.median(times) * 1e6 / windows for name, times in taken.items()}
    return {**figures, "resident_mb": (_most_resident() - before) / 1e6}


def _cold_pass(read: Callable[[int], object], starts: Sequence[int], descriptors: Sequence[int]) -> float:
    for descriptor in descriptors:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    started = time.perf_counter()
    for start in starts:
        read(start)
    return time.perf_counter() - started


def _by_store(store: DemoStore) -> Callable[[int], object]:
    return lambda start: store.take(KEY, np.arange(start, start + WINDOW))


def _by_hand(store: DemoStore, descriptors: Sequence[int]) -> Callable[[int], list[bytes]]:
    """Reads a window at once where it lies in one shard."""
    metadata = json.loads((store.path / "data" / KEY / "zarr.json").read_text())
    shard_rows = metadata["chunk_grid"]["configuration"]["chunk_shape"][0]
    stride = store.spec[KEY].size + 4  # after each frame its checksum

    def read(start: int) -> list[bytes]:
        shard, slot = divmod(start, shard_rows)
        here = min(WINDOW, shard_rows - slot)
        parts = [(shard, slot, here), (shard + 1, 0, WINDOW - here)]
        return [os.pread(descriptors[shard], n * stride, slot * stride) for shard, slot, n in parts if n]

    return read


def _most_resident() -> int:
    """Returns the most memory that this process has had so far [bytes]."""
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) * 1024


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measure(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
