"""The layout on disk: a plain zarr v3 hierarchy that any zarr reader opens.

::

    zarr.json                  group; attributes: schema version, Spec, rate, the caller's metadata
    data/<key>/                one array a feature, one row a step, episodes back to back
    data/time_ns/              int64 time of each step
    meta/episodes/             one JSON text an episode: task, success, operator, ...
    meta/episode_ends/         int64, the row after each episode's last

The files are written and read by this package directly: zarr's own path neither fsyncs nor lets us order
the renames that make an episode appear at once, and costs 0.3 ms and more a slice.

An array is cut into *blocks*, one file each. Low-dimensional blocks are one compressed chunk. Image blocks
are shards whose chunks are single frames, so that one frame can be read alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.spec import Feature
from robopolicy_datasets.store.codecs import (
    BYTES_CODEC,
    CHECKSUM_CODEC,
    ChunkCodec,
    ZstdCodec,
    codec_of_chain,
)

SCHEMA_VERSION = 2
READABLE_SCHEMAS = (1, 2)  # 1 knew zstd only
SCHEMA_KEY = "robopolicy_schema"
TIME_KEY = "time_ns"
STRING = "string"
STREAMS = "streams"  # attribute: the features of the streams
UNDECIDED = "codec_by_content"  # attribute: the keys whose codec the first episodes decide
LOSSLESS = ZstdCodec(3)
FILL_VALUES: Mapping[str, Any] = {
    "bool": False,
    **dict.fromkeys(("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"), 0),
    **dict.fromkeys(("float16", "float32", "float64"), 0.0),
    STRING: "",
}

_SHARD_BYTES = 8 << 20  # an append copies the encoded tail shard, so shards stay small
_CHUNK_BYTES = 256 << 10
_MOST_BLOCK_ROWS = 4096
_MOST_KEY_BYTES = 200  # file systems take 255


@dataclass(frozen=True)
class ArrayLayout:
    """How one array lies on disk.

    Attributes:
        row_shape: the shape of one row.
        data_type: zarr's name of the element type; numpy's, or ``"string"``.
        block_rows: rows in one file.
        sharded: whether each row is a chunk of its own inside the file.
        codec: how a chunk is encoded.
    """

    row_shape: tuple[int, ...]
    data_type: str
    block_rows: int
    sharded: bool = False
    codec: ChunkCodec = LOSSLESS

    @classmethod
    def of_feature(cls, feature: Feature, codec: ChunkCodec = LOSSLESS) -> ArrayLayout:
        """Chooses the layout for a feature.

        Raises:
            StoreError: the dtype cannot be stored, or not with this codec.
        """
        data_type = np.dtype(feature.dtype).name
        if data_type not in FILL_VALUES:
            allowed = ", ".join(name for name in FILL_VALUES if name != STRING)
            raise StoreError(f"'{feature.key}' has the dtype '{feature.dtype}'; a store holds {allowed}.")
        if not codec.lossless and feature.kind != "rgb":
            raise StoreError(
                f"'{feature.key}' is of the kind '{feature.kind}'; the codec {codec.name} is for rgb images. "
                "Use raw, lz4 or zstd."
            )
        row_bytes = max(1, feature.size * np.dtype(feature.dtype).itemsize)
        if feature.is_image:
            rows = int(np.clip(_SHARD_BYTES // row_bytes, 8, 128))
            return cls(feature.shape, data_type, rows, sharded=True, codec=codec)
        rows = int(np.clip(_CHUNK_BYTES // row_bytes, 64, _MOST_BLOCK_ROWS))
        return cls(feature.shape, data_type, rows, codec=codec)

    @property
    def row_bytes(self) -> int:
        """Decoded bytes of one row."""
        return int(np.prod(self.row_shape)) * np.dtype(self.data_type).itemsize

    def block_name(self, block: int) -> str:
        """Returns the file name of a block, e.g. ``"c.3.0.0.0"``."""
        return ".".join(["c", str(block), *("0" for _ in self.row_shape)])

    def metadata(self, rows: int) -> dict[str, Any]:
        """Returns the content of the array's ``zarr.json``."""
        codecs: list[Mapping[str, Any]]
        if self.data_type == STRING:
            codecs = [{"name": "vlen-utf8"}, *self.codec.chain(1)[1:]]
        else:
            codecs = self.codec.chain(np.dtype(self.data_type).itemsize)
        if self.sharded:
            configuration = {
                "chunk_shape": [1, *self.row_shape],
                "codecs": codecs,
                "index_codecs": [BYTES_CODEC, CHECKSUM_CODEC],
                "index_location": "end",
            }
            codecs = [{"name": "sharding_indexed", "configuration": configuration}]
        grid = {"name": "regular", "configuration": {"chunk_shape": [self.block_rows, *self.row_shape]}}
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [rows, *self.row_shape],
            "data_type": self.data_type,
            "chunk_grid": grid,
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "fill_value": FILL_VALUES[self.data_type],
            "codecs": codecs,
            "attributes": {},
        }

    @classmethod
    def from_metadata(cls, folder: Path) -> tuple[ArrayLayout, int]:
        """Reads ``folder/zarr.json``; returns the layout and the number of rows that it declares.

        Raises:
            StoreError: the file is missing, damaged, or not of our layout.
        """
        content = read_json(folder / "zarr.json")
        try:
            rows, *row_shape = content["shape"]
            sharded = content["codecs"][0]["name"] == "sharding_indexed"
            block_rows = content["chunk_grid"]["configuration"]["chunk_shape"][0]
            chain = content["codecs"][0]["configuration"]["codecs"] if sharded else content["codecs"]
            data_type = content["data_type"]
            text = data_type == STRING
            codec = LOSSLESS if text else codec_of_chain(chain, np.dtype(data_type).itemsize)
            layout = cls(tuple(row_shape), data_type, block_rows, sharded, codec or LOSSLESS)
            same = layout.metadata(rows) == {**content, "attributes": {}}
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(f"{folder / 'zarr.json'} does not describe an array: {error!r}.") from error
        whole = all(type(size) is int for size in (rows, block_rows, *row_shape))
        if not (same and whole and 1 <= block_rows <= _MOST_BLOCK_ROWS and rows >= 0):
            raise StoreError(
                f"{folder} is laid out in a way that robopolicy does not write; "
                "another tool changed it. Restore the store, or import it into a new one."
            )
        return layout, rows


ENDS_LAYOUT = ArrayLayout((), "int64", _MOST_BLOCK_ROWS)
TIME_LAYOUT = ArrayLayout((), "int64", _MOST_BLOCK_ROWS)
INFO_LAYOUT = ArrayLayout((), STRING, 256)


def data_folder(key: str) -> str:
    """Returns the folder, within the store, of what each step has under ``key``."""
    return f"data/{key}"


def stream_folders(key: str) -> tuple[str, str]:
    """Returns the folders, within the store, of a stream's values and of their times."""
    return f"streams/{key}/value", f"streams/{key}/{TIME_KEY}"


def checked_key(key: str) -> str:
    """Returns ``key`` where it can be a folder's name and no more.

    Raises:
        StoreError: it cannot.
    """
    fits = 0 < len(key.encode("utf-8", "replace")) <= _MOST_KEY_BYTES and not key.startswith(".")
    if key == TIME_KEY or not fits or not all(c.isalnum() or c in "_-." for c in key):
        raise StoreError(
            f"'{key[:80]}' cannot be a key of a store: use up to {_MOST_KEY_BYTES} letters, digits, '_', '-' "
            f"and '.'; '{TIME_KEY}' is the store's own."
        )
    return key


def group_metadata(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of a group's ``zarr.json``."""
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}


def to_json_bytes(content: Any) -> bytes:
    """Encodes plain data as indented JSON."""
    return json.dumps(content, indent=2).encode()


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        StoreError: the file is missing, unreadable, or not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise StoreError(f"{path} is missing: the store is incomplete.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} cannot be read: {error}. Restore the store from a copy.") from error
