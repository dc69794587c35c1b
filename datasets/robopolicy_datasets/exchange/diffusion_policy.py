"""Import of diffusion_policy replay buffers (zarr v2 or v3, folders or zips)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.exchange.configs import DiffusionPolicyFormatConfig
from robopolicy_datasets.exchange.layout import Column, empty_rows, plan_columns, spec_of, take_next_step
from robopolicy_datasets.exchange.record import IMPORT_OF_EXPORT, RECORD_KEY, Record, changed
from robopolicy_datasets.exchange.rows import ChunkKeeper, read_columns
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.store.episode import EpisodeInfo, NewEpisode
from robopolicy_datasets.store.filling import append_all
from robopolicy_datasets.store.foreign import ForeignFiles, is_foreign
from robopolicy_datasets.store.layout import TIME_KEY
from robopolicy_datasets.store.native import is_native
from robopolicy_datasets.store.pickles import refuse_pickle
from robopolicy_datasets.store.staging import new_store

_log = logging.getLogger(__name__)


def import_store(
    config: DiffusionPolicyFormatConfig,
    source: str | Path,
    target: str | Path,
    progress: Callable[[int, int], None] | None = None,
    codecs: Mapping[str, str] | None = None,
) -> DemoStore:
    """Copies a diffusion_policy store into a new store of ours; the target appears complete or not at all.

    Args:
        config: rate and layout.
        source: the folder with ``data/`` and ``meta/``, or a zip of one.
        target: the new store; must not exist.
        progress: called with (episodes done, episodes in all).
        codecs: of the new store, see ``DemoStore.create``.

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
    columns, record, time_ns = _plan(config, files, source)
    left_out = sorted(set(files.arrays) - {column.source for column in columns})
    if left_out:
        _log.info("%s: the layout leaves out %s.", source, ", ".join(left_out))
    with new_store(
        source, target, record.spec, rate_hz=record.rate_hz, metadata=record.metadata, codecs=codecs
    ) as store:
        append_all(store, _episodes(files, columns, record.infos, time_ns), len(original), progress)
    return DemoStore.open(target)


def _plan(
    config: DiffusionPolicyFormatConfig, files: ForeignFiles, source: Path
) -> tuple[list[Column], Record, NDArray[np.int64] | None]:
    """Returns what is read, what the new store is, and its times ``[T]`` [ns] where they are known.

    An export of ours says all that by itself, unless a layout makes something else of its keys.
    """
    offered = {key: (array.row_shape, array.dtype) for key, array in files.arrays.items()}
    kept = None if config.is_given else files.attributes.get(RECORD_KEY)
    if kept is None:
        columns = plan_columns(config.layout, config.features, offered, config.next_step)
        info = EpisodeInfo(task=config.task, operator=config.operator, embodiment=config.embodiment)
        metadata = {"format": "diffusion_policy", "source": source.name}
        infos = [info] * len(files.ends)
        return columns, Record(spec_of(columns), config.layout, config.rate_hz, metadata, infos), None
    config.refuse_given("rate_hz", "task", "operator", "embodiment", verb=IMPORT_OF_EXPORT)
    place = f"The attribute '{RECORD_KEY}' of {source}"
    record = Record.from_json(kept, place)
    record.check_episodes(len(files.ends), place)
    columns = record.restored(plan_columns(record.layout, {}, offered), place)
    times = files.meta(TIME_KEY)
    rows = int(files.ends[-1]) if len(files.ends) else 0
    if (times.dtype, times.row_shape) != ("int64", ()) or times.rows != rows:
        raise changed(place, f"meta/{TIME_KEY} is {times.dtype}{[times.rows, *times.row_shape]}")
    return columns, record, times.read(0, rows)


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
    files: ForeignFiles,
    columns: list[Column],
    infos: Sequence[EpisodeInfo],
    time_ns: NDArray[np.int64] | None,
) -> Iterator[NewEpisode]:
    sources = dict.fromkeys(column.source for column in columns)
    wanted = {source: [column for column in columns if column.source == source] for source in sources}
    arrays = {source: ChunkKeeper(files.arrays[source]) for source in sources}
    for info, (start, stop) in zip(infos, pairwise([0, *files.ends.tolist()]), strict=True):
        data = empty_rows(columns, stop - start)
        for source, array in arrays.items():
            read_columns(array, wanted[source], start, stop, data)
        take_next_step(data, columns)
        yield NewEpisode(data, info, None if time_ns is None else time_ns[start:stop])
