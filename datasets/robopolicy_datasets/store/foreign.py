"""Stores that others wrote in the layout of diffusion_policy (zarr v2 or v3), read only.

They are folders or zips (``container.py``). Nothing in them is trusted: codecs that could run code are
refused, and every size is checked against the files before anything is allocated.
"""

from __future__ import annotations

import json
import logging
import lzma
import math
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store.array_metadata import (
    chunk_naming,
    codec_names,
    parse_encoding,
    parse_sizes,
    row_of_chunk,
)
from robopolicy_datasets.store.container import Container, open_container
from robopolicy_datasets.store.episode import EpisodeInfo
from robopolicy_datasets.store.events import Event
from robopolicy_datasets.store.jpegxl import UMI_CODEC, checked_codec
from robopolicy_datasets.store.layout import SCHEMA_KEY
from robopolicy_datasets.store.streams import StreamFiles

if TYPE_CHECKING:
    import zarr

_log = logging.getLogger(__name__)
_SAFE_CODECS = frozenset(
    {"blosc", "zstd", "zlib", "gzip", "bz2", "lzma", "lz4", "shuffle", "delta"}
    | {"bytes", "transpose", "sharding_indexed", "crc32c"}
)
_MAX_CHUNK_BYTES = 1 << 30
_MAX_EPISODES = 10_000_000
_DECODING_ERRORS = (
    *(ValueError, RuntimeError, OSError, TypeError, KeyError, EOFError, MemoryError, OverflowError),
    *(zlib.error, lzma.LZMAError),
)
_MAX_COMPRESSION = 100_000  # decoded bytes per byte on disk; constant images reach some thousands


class ForeignArray:
    """One array that others wrote.

    Args:
        container: the store's files.
        name: the array's folder in it, e.g. ``"data/action"``.

    Raises:
        StoreError: it is not an array of numbers, uses a codec that is not allowed, or its sizes are absurd.
        MissingExtraError: it needs a decoder that is not installed.
    """

    def __init__(self, container: Container, name: str) -> None:
        self.folder = folder = container.path / name
        self._container = container
        self.name = name
        zarr_format = 2 if f"{name}/.zarray" in container else 3
        content = _read_json(container, f"{name}/.zarray" if zarr_format == 2 else f"{name}/zarr.json")
        try:
            shape, chunks, dtype = parse_sizes(content, zarr_format)
            naming = chunk_naming(content, zarr_format)
            is_umi = zarr_format == 2 and (content["compressor"] or {}).get("id") == UMI_CODEC
            codecs = set(codec_names({**content, "compressor": None} if is_umi else content))
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise StoreError(f"{folder} has metadata that cannot be understood: {error}.") from error
        unsafe = sorted(codecs - _SAFE_CODECS)
        if unsafe:
            allowed = ", ".join(sorted({*_SAFE_CODECS, UMI_CODEC}))
            raise StoreError(
                f"{folder} uses the codec {', '.join(unsafe)}, which is not read. Allowed: {allowed}."
            )
        try:
            self._encoding = parse_encoding(content, chunks)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(f"{folder} has metadata that cannot be understood: {error}.") from error
        self.rows = shape[0]
        self.row_shape = shape[1:]
        self.dtype = dtype.name
        self.chunk_rows = chunks[0]
        # What lies between two codecs may be of a wider type than the chunk, and bear a header.
        self._encoded_limit = 8 * math.prod(chunks) * dtype.itemsize + 1024
        grid = [-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True)]
        self._chunks_abreast = math.prod(grid[1:])
        files = container.files(name)
        _check_sizes(folder, sum(files.values()), shape, chunks, dtype)
        self._metadata = {**content, "zarr_format": zarr_format}
        if is_umi:
            self._metadata["compressor"] = checked_codec(chunks, dtype)
        rows = (row_of_chunk(file, naming, grid) for file in files)
        self._found = Counter(row for row in rows if row is not None)  # files by place along the rows

    @property
    def row_bytes(self) -> int:
        """Decoded bytes of one row."""
        return int(np.prod(self.row_shape)) * np.dtype(self.dtype).itemsize

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Reads rows ``start`` to ``stop`` (exclusive) as ``[stop - start, *row_shape]``.

        Raises:
            StoreError: the bytes are damaged.
        """
        try:
            values = np.asarray(self._array[start:stop])
        except _DECODING_ERRORS as error:
            raise StoreError(f"{self.folder} cannot be decoded: {error}. Copy the store again.") from error
        return values.astype(values.dtype.newbyteorder("="), copy=False)

    def take(self, rows: Sequence[int], out: NDArray[Any]) -> NDArray[Any]:
        """Reads single rows, N of them, into ``out [N, *row_shape]``; each costs a whole chunk.

        Raises:
            StoreError: the bytes are damaged.
        """
        for place, row in enumerate(rows):
            out[place] = self.read(row, row + 1)[0]
        return out

    def missing_rows(self, rows: int) -> list[range]:
        """Returns the ranges among the first ``rows`` rows of which a chunk has no file."""
        return [
            range(start, min(start + self.chunk_rows, rows))
            for start in range(0, rows, self.chunk_rows)
            if self._found[start // self.chunk_rows] < self._chunks_abreast
        ]

    @cached_property
    def _array(self) -> zarr.Array[Any]:
        from robopolicy_datasets.store.zarr_view import open_array  # zarr is slow to import

        return open_array(
            self._container, self.name, self._metadata, encoding=self._encoding, limit=self._encoded_limit
        )


class ForeignFiles:
    """A folder or zip with ``data/<key>`` arrays and ``meta/episode_ends``.

    Args:
        path: the folder or zip.

    Raises:
        StoreError: it is not such a store, or not safe to read.
        MissingExtraError: it needs a decoder that is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._container = container = open_container(path)
        _check_kind(container)
        self.metadata: dict[str, Any] = {}
        self.rate_hz = 0.0
        self.time = None
        self.streams: dict[str, StreamFiles] = {}
        self.arrays = {
            name.removeprefix("data/"): ForeignArray(container, name)
            for name in container.folders()
            if name.startswith("data/") and not name.startswith("data/.") and _is_array(container, name)
        }
        ends = ForeignArray(container, "meta/episode_ends")
        if ends.row_shape or np.dtype(ends.dtype).kind not in "iu" or ends.rows > _MAX_EPISODES:
            raise StoreError(
                f"{ends.folder} is {ends.dtype}{[ends.rows, *ends.row_shape]}; "
                f"expected are integers [E] with at most {_MAX_EPISODES} episodes."
            )
        self.ends: NDArray[np.int64] = ends.read(0, ends.rows).astype(np.int64)
        arrays = (*self.arrays.values(), ends)
        known = {array.name for array in arrays}
        if any(array.missing_rows(array.rows) for array in arrays) or not known.issuperset(
            container.folders()
        ):
            container.check_names()
        features = [infer_feature(key, array.row_shape, array.dtype) for key, array in self.arrays.items()]
        self.spec = Spec(
            tuple(feature for feature in features if feature.key != "action"),
            tuple(feature for feature in features if feature.key == "action"),
        )

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """What others noted on a zarr v2 store as a whole.

        Raises:
            StoreError: it is damaged.
        """
        content = _read_json(self._container, ".zattrs") if ".zattrs" in self._container else {}
        return content if isinstance(content, dict) else {}

    def meta(self, name: str) -> ForeignArray:
        """Returns the array ``meta/<name>``.

        Raises:
            StoreError: there is none, or it is not safe to read.
        """
        return ForeignArray(self._container, f"meta/{name}")

    def read_infos(self, start: int, stop: int) -> list[EpisodeInfo]:
        """Returns empty infos: such stores have none."""
        return [EpisodeInfo()] * (stop - start)

    def read_events(self, episodes: int) -> list[Event]:
        """Returns none: such stores have no events."""
        return []

    def check_files(self, rows: int) -> None:
        """Warns of rows after the last episode, and of rows that are not there.

        For chunks without a file zarr gives a constant. Some writers leave such chunks out on purpose.
        """
        for key, array in self.arrays.items():
            if array.rows > rows:
                _log.warning(
                    "%s: %d rows of '%s' after the last episode are ignored.",
                    self.path,
                    array.rows - rows,
                    key,
                )
            missing = array.missing_rows(rows)
            if missing:
                _log.warning(
                    "%s: %d of %d rows of '%s' have no file and are read as its fill value (the first: "
                    "%d to %d). If they should differ, the copy is incomplete: copy the store again.",
                    self.path,
                    sum(map(len, missing)),
                    rows,
                    key,
                    missing[0].start,
                    missing[0].stop - 1,
                )


def is_foreign(path: Path) -> bool:
    """Whether ``path`` looks like a diffusion_policy store: such a folder, or any zip."""
    ends = path / "meta" / "episode_ends"
    folder = (path / "data").is_dir() and ((ends / ".zarray").is_file() or (ends / "zarr.json").is_file())
    return folder or (path.is_file() and (path.suffix == ".zip" or zipfile.is_zipfile(path)))


def infer_feature(key: str, row_shape: tuple[int, ...], dtype: str) -> Feature:
    """Describes an array by its key (UMI's names), shape and dtype."""
    if dtype == "uint8" and len(row_shape) == 3 and row_shape[-1] == 3:
        return Feature(key, row_shape, dtype, kind="rgb")
    by_ending = {
        "_eef_pos": ("position", "m"),
        "_axis_angle": ("axis_angle", "rad"),
        "_gripper_width": ("width", "m"),
        "_joint_pos": ("joint", "rad"),
        "_wrench": ("wrench", "N, N m"),
    }
    for ending, (kind, unit) in by_ending.items():
        if key.endswith(ending):
            return Feature(key, row_shape, dtype, kind=kind, unit=unit)
    return Feature(key, row_shape, dtype)


def _check_kind(container: Container) -> None:
    for name in container.top():
        if name.endswith("zarr.json") and SCHEMA_KEY in str(_read_json(container, name)):
            raise StoreError(
                f"{container.path} is a zip of a robopolicy store, which is not read in place. "
                "Unpack it (unzip FILE), then open the folder."
            )
    if not _is_array(container, "meta/episode_ends"):
        raise StoreError(
            f"{container.path} is not a diffusion_policy store: expected are data/<key> arrays and "
            "meta/episode_ends at its top."
        )


def _is_array(container: Container, name: str) -> bool:
    return f"{name}/.zarray" in container or f"{name}/zarr.json" in container


def _read_json(container: Container, name: str) -> Any:
    data = container.read(name)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{container.path / name} cannot be read: {error}. Copy the store again.") from error


def _check_sizes(
    folder: Path, on_disk: int, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype[Any]
) -> None:
    chunk_bytes = int(np.prod(chunks, dtype=object)) * dtype.itemsize
    total_bytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if chunk_bytes > _MAX_CHUNK_BYTES:
        raise StoreError(f"{folder} has chunks of {chunk_bytes} bytes; at most {_MAX_CHUNK_BYTES} are read.")
    if total_bytes > on_disk * _MAX_COMPRESSION:
        raise StoreError(
            f"{folder} declares the shape {list(shape)} ({total_bytes} bytes) but holds {on_disk} bytes "
            "on disk; its metadata is damaged. Copy the store again."
        )
