"""Export of a store as a diffusion_policy replay buffer: zarr v2, in a folder or, as UMI has it, in a zip."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numcodecs import Blosc
from numpy.typing import NDArray

from robopolicy_datasets.exchange.configs import DiffusionPolicyFormatConfig
from robopolicy_datasets.exchange.outputs import Output, open_for_export, record_of
from robopolicy_datasets.exchange.record import RECORD_KEY
from robopolicy_datasets.spec import Feature
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.store.layout import TIME_KEY
from robopolicy_datasets.store.staging import staged, sync_files

if TYPE_CHECKING:
    import zarr

_CHUNK_BYTES = 2 << 20  # decoded, as diffusion_policy chooses too
_BLOCK_BYTES = 64 << 20  # decoded bytes in memory at a time
_LEVEL = 3  # of zstd


def export_store(
    config: DiffusionPolicyFormatConfig,
    source: str | Path,
    target: str | Path,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes a store as a replay buffer; the target appears complete or not at all.

    Every feature becomes ``data/<key>`` to the bit. The steps' times are in ``meta/time_ns``, and what else a
    replay buffer has no place for is in the attribute ``robopolicy`` of the root: both are used when it is
    imported again.

    Args:
        config: of the format; nothing is to be set.
        source: the store.
        target: the new folder, or zip where the name ends in ``.zip``; must not exist.
        progress: called with (episodes done, episodes in all).

    Raises:
        StoreError: the store cannot be read, has no episodes or rate, or the target exists or cannot be
            written.
        ConfigError: settings of an import are given.
    """
    config.refuse_given(
        "layout", "features", "next_step", "rate_hz", "task", "operator", "embodiment", verb="export"
    )
    store = open_for_export(source)
    with staged(source, target, "exported") as staging:
        _write(store, staging, progress, zipped=Path(target).suffix == ".zip")
        sync_files(staging)


def _write(
    store: DemoStore, path: Path, progress: Callable[[int, int], None] | None, *, zipped: bool
) -> None:
    import zarr  # slow to import
    from zarr.storage import LocalStore, ZipStore

    features = store.spec.features
    record = record_of(store, [Output(feature.key, feature.dtype, (feature,)) for feature in features])
    files = ZipStore(path, mode="w", compression=zipfile.ZIP_STORED) if zipped else LocalStore(path)
    try:
        root = zarr.open_group(files, mode="w", zarr_format=2, attributes={RECORD_KEY: record.to_json()})
        data, meta = root.create_group("data"), root.create_group("meta")
        _write_array(meta, "episode_ends", store.episode_ends)
        _write_array(meta, TIME_KEY, store.array(TIME_KEY))
        for done, feature in enumerate(features, start=1):
            _write_feature(data, store, feature, alone=zipped and feature.is_image)
            if progress is not None:
                progress(len(store) * done // len(features), len(store))
    finally:
        files.close()


def _codec(dtype: np.dtype[Any]) -> Blosc:
    """Returns the compressor; to shuffle the bits of images only makes them larger, and takes longer."""
    return Blosc("zstd", _LEVEL, Blosc.SHUFFLE if dtype.itemsize > 1 else Blosc.NOSHUFFLE)


def _write_array(group: zarr.Group, name: str, values: NDArray[Any]) -> None:
    array = group.create_array(
        name, shape=values.shape, dtype=values.dtype, chunks=values.shape, compressors=_codec(values.dtype)
    )
    array[:] = values


def _write_feature(data: zarr.Group, store: DemoStore, feature: Feature, *, alone: bool) -> None:
    """Writes all rows of a feature, whole chunks of them at a time.

    Args:
        data: the group.
        store: the source.
        feature: of the source.
        alone: whether each row is a chunk of its own, as UMI's loader reads images.
    """
    row_bytes = feature.size * np.dtype(feature.dtype).itemsize
    chunk_rows = 1 if alone else min(max(1, _CHUNK_BYTES // row_bytes), store.num_steps)
    array = data.create_array(
        feature.key,
        shape=(store.num_steps, *feature.shape),
        dtype=feature.dtype,
        chunks=(chunk_rows, *feature.shape),
        compressors=_codec(np.dtype(feature.dtype)),
    )
    block_rows = chunk_rows * max(1, _BLOCK_BYTES // (row_bytes * chunk_rows))
    for start in range(0, store.num_steps, block_rows):
        stop = min(start + block_rows, store.num_steps)
        array[start:stop] = store.rows(feature.key, start, stop)
