"""Stores that others wrote in the layout of diffusion_policy (zarr v2 or v3), read only.

Nothing in such a folder is trusted: codecs that could run code are refused, links must not leave the
folder, and every size is checked against the files before anything is allocated.
"""

from __future__ import annotations

import logging
import lzma
import math
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store.episode import EpisodeInfo
from robopolicy_datasets.store.events import EventFiles
from robopolicy_datasets.store.layout import read_json
from robopolicy_datasets.store.streams import StreamFiles

if TYPE_CHECKING:
    import zarr

_log = logging.getLogger(__name__)
_SAFE_CODECS = frozenset(
    {"blosc", "zstd", "zlib", "gzip", "bz2", "lzma", "lz4", "shuffle", "delta"}
    | {"bytes", "transpose", "sharding_indexed", "crc32c"}
)
_CHUNK_FILE = re.compile(r"(?:c[./])?(\d+)(?:[./]\d+)*")
_MAX_CHUNK_BYTES = 1 << 30
_MAX_EPISODES = 10_000_000
_DECODING_ERRORS = (ValueError, RuntimeError, OSError, TypeError, EOFError, zlib.error, lzma.LZMAError)
_MAX_COMPRESSION = 100_000  # decoded bytes per byte on disk; constant images reach some thousands


class ForeignArray:
    """One array that others wrote.

    Args:
        folder: the array's folder.

    Raises:
        StoreError: it is not an array of numbers, uses a codec that is not allowed, or its sizes are absurd.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.zarr_format = 2 if (folder / ".zarray").is_file() else 3
        content = read_json(folder / (".zarray" if self.zarr_format == 2 else "zarr.json"))
        try:
            shape, chunks, dtype = _parse(content, self.zarr_format)
            codecs = set(_codec_names(content))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(f"{folder} has metadata that cannot be understood: {error}.") from error
        unsafe = sorted(codecs - _SAFE_CODECS)
        if unsafe:
            allowed = ", ".join(sorted(_SAFE_CODECS))
            raise StoreError(
                f"{folder} uses the codec {', '.join(unsafe)}, which is not read. Allowed: {allowed}."
            )
        self.rows = shape[0]
        self.row_shape = shape[1:]
        self.dtype = dtype.name
        self.chunk_rows = chunks[0]
        self._chunks_abreast = math.prod(
            -(-size // chunk) for size, chunk in zip(shape[1:], chunks[1:], strict=True)
        )
        files = {file: file.stat().st_size for file in folder.rglob("*") if file.is_file()}
        _check_sizes(folder, sum(files.values()), shape, chunks, dtype)
        matches = (_CHUNK_FILE.fullmatch(file.relative_to(folder).as_posix()) for file in files)
        self._found = Counter(int(match[1]) for match in matches if match)  # files by place along the rows

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
            values = np.asarray(self._open()[start:stop])
        except _DECODING_ERRORS as error:
            raise StoreError(f"{self.folder} cannot be decoded: {error}. Copy the store again.") from error
        return values.astype(values.dtype.newbyteorder("="), copy=False)

    def take(self, rows: NDArray[np.integer], out: NDArray[Any]) -> NDArray[Any]:
        """Reads single rows ``[N]`` into ``out [N, *row_shape]``; each costs a whole chunk.

        Raises:
            StoreError: the bytes are damaged.
        """
        for row, place in zip(rows.tolist(), out, strict=True):
            place[...] = self.read(row, row + 1)[0]
        return out

    def missing_rows(self, rows: int) -> list[range]:
        """Returns the ranges among the first ``rows`` rows of which a chunk has no file."""
        return [
            range(start, min(start + self.chunk_rows, rows))
            for start in range(0, rows, self.chunk_rows)
            if self._found[start // self.chunk_rows] < self._chunks_abreast
        ]

    def _open(self) -> zarr.Array[Any]:
        import zarr  # slow to import, and needed for foreign stores only

        return zarr.open_array(self.folder, mode="r", zarr_format=2 if self.zarr_format == 2 else 3)


class ForeignFiles:
    """A folder with ``data/<key>`` arrays and ``meta/episode_ends``.

    Args:
        path: the folder.

    Raises:
        StoreError: it is not such a folder, or not safe to read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _refuse_links_outside(path)
        self.metadata: dict[str, Any] = {}
        self.rate_hz = 0.0
        self.time = None
        self.streams: dict[str, StreamFiles] = {}
        self.events = EventFiles(path / "meta" / "events")
        self.arrays = {folder.name: ForeignArray(folder) for folder in _array_folders(path / "data")}
        ends = ForeignArray(path / "meta" / "episode_ends")
        if ends.row_shape or np.dtype(ends.dtype).kind not in "iu" or ends.rows > _MAX_EPISODES:
            raise StoreError(
                f"{ends.folder} is {ends.dtype}{[ends.rows, *ends.row_shape]}; "
                f"expected are integers [E] with at most {_MAX_EPISODES} episodes."
            )
        self.ends: NDArray[np.int64] = ends.read(0, ends.rows).astype(np.int64)
        features = [infer_feature(key, array.row_shape, array.dtype) for key, array in self.arrays.items()]
        self.spec = Spec(
            tuple(feature for feature in features if feature.key != "action"),
            tuple(feature for feature in features if feature.key == "action"),
        )

    def read_infos(self, start: int, stop: int) -> list[EpisodeInfo]:
        """Returns empty infos: such stores have none."""
        return [EpisodeInfo()] * (stop - start)

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
    """Whether ``path`` looks like a diffusion_policy store."""
    ends = path / "meta" / "episode_ends"
    return (path / "data").is_dir() and ((ends / ".zarray").is_file() or (ends / "zarr.json").is_file())


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


def _array_folders(data: Path) -> list[Path]:
    folders = sorted(entry for entry in data.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return [
        folder for folder in folders if (folder / ".zarray").is_file() or (folder / "zarr.json").is_file()
    ]


def _parse(content: Any, zarr_format: int) -> tuple[tuple[int, ...], tuple[int, ...], np.dtype[Any]]:
    """Returns shape, shape of the largest unit that is decoded at once, and dtype."""
    if zarr_format == 2:
        chunks, name = content["chunks"], content["dtype"]
    else:
        chunks, name = content["chunk_grid"]["configuration"]["chunk_shape"], content["data_type"]
    if not isinstance(name, str):
        raise ValueError(f"the dtype {name!r} is not a number's")
    dtype = np.dtype(name)
    if dtype.kind not in "biuf":
        raise ValueError(f"the dtype {name!r} is not a number's")
    shape, chunks = (tuple(int(size) for size in sizes) for sizes in (content["shape"], chunks))
    if not shape or len(shape) != len(chunks) or min(shape) < 0 or min(chunks) < 1 or 0 in shape[1:]:
        raise ValueError(f"the shape {shape} with chunks {chunks} is not allowed")
    return shape, chunks, dtype


def _codec_names(content: Any) -> Iterator[str]:
    """Yields the names of all codecs in an array's metadata, nested ones too."""
    for codec in [content.get("compressor"), *(content.get("filters") or []), *(content.get("codecs") or [])]:
        if codec is not None:
            yield from _names_of(codec)


def _names_of(codec: Any) -> Iterator[str]:
    if not isinstance(codec, dict):
        yield repr(codec)
        return
    yield str(codec.get("id") or codec.get("name"))
    configuration = codec.get("configuration") or {}
    for inner in [*(configuration.get("codecs") or []), *(configuration.get("index_codecs") or [])]:
        yield from _names_of(inner)


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


def _refuse_links_outside(path: Path) -> None:
    root = path.resolve()
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            entry = Path(folder) / name
            if entry.is_symlink() and not entry.resolve().is_relative_to(root):
                raise StoreError(
                    f"{entry} is a link that leaves the store; replace it by the file it points to."
                )
