"""Import of diffusion_policy replay buffers (zarr v2 or v3, folders or zips)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.exchange.configs import DiffusionPolicyFormatConfig
from robopolicy_datasets.exchange.layout import Column, plan_columns, spec_of
from robopolicy_datasets.exchange.rows import BATCH_BYTES, read_columns
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.store.episode import EpisodeInfo, NewEpisode
from robopolicy_datasets.store.foreign import ForeignFiles, is_foreign
from robopolicy_datasets.store.native import is_native
from robopolicy_datasets.store.staging import new_store

_log = logging.getLogger(__name__)


def import_store(
    config: DiffusionPolicyFormatConfig,
    source: str | Path,
    target: str | Path,
    progress: Callable[[int, int], None] | None = None,
) -> DemoStore:
    """Copies a diffusion_policy store into a new store of ours; the target appears complete or not at all.

    Args:
        config: rate and layout.
        source: the folder with ``data/`` and ``meta/``, or a zip of one.
        target: the new store; must not exist.
        progress: called with (episodes done, episodes in all).

    Returns:
        The new store, open for reading.

    Raises:
        StoreError: the source cannot be read or is not safe to read, a value does not fit its feature, or
            the target exists or cannot be written.
        MissingExtraError: the source's images need a decoder that is not installed.
        ConfigError: the layout does not fit the source.
    """
    source = Path(source)
    original, files = _open_source(source)
    columns = plan_columns(
        config.layout,
        config.features,
        {key: (array.row_shape, array.dtype) for key, array in files.arrays.items()},
    )
    left_out = sorted(set(files.arrays) - {column.source for column in columns})
    if left_out:
        _log.info("%s: the layout leaves out %s.", source, ", ".join(left_out))
    info = EpisodeInfo(task=config.task, operator=config.operator, embodiment=config.embodiment)
    metadata = {"format": "diffusion_policy", "source": source.name}
    with new_store(source, target, spec_of(columns), rate_hz=config.rate_hz, metadata=metadata) as store:
        for first, stop in _batches(original.episode_ends, _row_bytes(files, columns)):
            store.append_episodes(_read_episodes(files, columns, original.episode_ends, first, stop, info))
            if progress is not None:
                progress(stop, len(original))
    return DemoStore.open(target)


def _open_source(source: Path) -> tuple[DemoStore, ForeignFiles]:
    if is_native(source):
        raise StoreError(f"{source} is a robopolicy store already; it needs no import.")
    if source.exists() and not is_foreign(source):
        raise StoreError(
            f"{source} is not a diffusion_policy store: expected is a folder with data/<key> arrays and "
            "meta/episode_ends, or a zip of one."
        )
    store = DemoStore.open(source)
    return store, ForeignFiles(source)


def _row_bytes(files: ForeignFiles, columns: list[Column]) -> int:
    return sum(files.arrays[key].row_bytes for key in {column.source for column in columns})


def _batches(ends: NDArray[np.int64], row_bytes: int) -> Iterator[tuple[int, int]]:
    """Yields ranges of episodes whose decoded size is about ``BATCH_BYTES`` (at least one episode)."""
    first = 0
    while first < len(ends):
        start_row = int(ends[first - 1]) if first else 0
        limit = start_row + max(1, BATCH_BYTES // row_bytes)
        stop = max(first + 1, int(np.searchsorted(ends, limit, side="right")))
        yield first, stop
        first = stop


def _read_episodes(
    files: ForeignFiles,
    columns: list[Column],
    ends: NDArray[np.int64],
    first: int,
    stop: int,
    info: EpisodeInfo,
) -> list[NewEpisode]:
    start_row, stop_row = (int(ends[first - 1]) if first else 0), int(ends[stop - 1])
    data: dict[str, NDArray[Any]] = {}
    for source in dict.fromkeys(column.source for column in columns):
        wanted = [column for column in columns if column.source == source]
        data.update(read_columns(files.arrays[source], wanted, start_row, stop_row))
    bounds = np.concatenate([[start_row], ends[first:stop]]) - start_row
    return [
        NewEpisode({key: values[low:high] for key, values in data.items()}, info)
        for low, high in pairwise(bounds)
    ]
