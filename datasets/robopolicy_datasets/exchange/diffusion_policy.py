"""Import of diffusion_policy replay buffers (zarr v2 or v3, folders or zips)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.exchange.configs import DiffusionPolicyFormatConfig
from robopolicy_datasets.exchange.layout import Column, plan_columns, spec_of
from robopolicy_datasets.exchange.rows import ChunkKeeper, read_columns
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.store.episode import EpisodeInfo, NewEpisode
from robopolicy_datasets.store.filling import append_all
from robopolicy_datasets.store.foreign import ForeignFiles, is_foreign
from robopolicy_datasets.store.native import is_native
from robopolicy_datasets.store.pickles import refuse_pickle
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
        append_all(store, _episodes(files, columns, original, info), len(original), progress)
    return DemoStore.open(target)


def _open_source(source: Path) -> tuple[DemoStore, ForeignFiles]:
    if is_native(source):
        raise StoreError(f"{source} is a robopolicy store already; it needs no import.")
    if source.exists() and not is_foreign(source):
        refuse_pickle(source)
        raise StoreError(
            f"{source} is not a diffusion_policy store: expected is a folder with data/<key> arrays and "
            "meta/episode_ends, or a zip of one."
        )
    store = DemoStore.open(source)
    if not len(store):
        raise StoreError(f"{source} has no episodes; there is nothing to import.")
    return store, ForeignFiles(source)


def _episodes(
    files: ForeignFiles, columns: list[Column], original: DemoStore, info: EpisodeInfo
) -> Iterator[NewEpisode]:
    sources = dict.fromkeys(column.source for column in columns)
    wanted = {source: [column for column in columns if column.source == source] for source in sources}
    arrays = {source: ChunkKeeper(files.arrays[source]) for source in sources}
    for start, stop in pairwise([0, *original.episode_ends.tolist()]):
        data: dict[str, NDArray[Any]] = {}
        for source, array in arrays.items():
            data |= read_columns(array, wanted[source], start, stop)
        yield NewEpisode(data, info)
