"""Zarr v3 shards: chunks back to back in one file, and an index of them at its end."""

from __future__ import annotations

import os
import struct
import weakref
from collections.abc import Sequence
from pathlib import Path

import google_crc32c
import numpy as np

_EMPTY = 2**64 - 1
_CHECKSUM_BYTES = 4


def pack_shard(chunks: Sequence[bytes | memoryview], slots: int) -> bytes:
    """Builds a shard of ``slots`` chunks, the first ``len(chunks)`` of them present; index at the end."""
    index = np.full((slots, 2), _EMPTY, dtype="<u8")
    sizes = np.array([len(chunk) for chunk in chunks], dtype="<u8")
    index[: len(chunks), 0] = np.cumsum(sizes) - sizes
    index[: len(chunks), 1] = sizes
    index_bytes = index.tobytes()
    return b"".join([*chunks, index_bytes, struct.pack("<I", google_crc32c.value(index_bytes))])


class Shard:
    """An open shard: its index in memory, its chunks read one by one.

    What is committed never changes: a shard that grows is replaced by another file, and an open one keeps
    showing what it held.

    Args:
        path: the file.
        slots: chunks that the shard has room for.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged.
    """

    def __init__(self, path: Path, slots: int) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        self._close = weakref.finalize(self, os.close, self._descriptor)  # when no thread reads it any more
        size = os.fstat(self._descriptor).st_size
        index_bytes = 16 * slots
        start = size - index_bytes - _CHECKSUM_BYTES
        if start < 0:
            raise ValueError(f"{size} bytes are too few for an index of {slots} chunks")
        tail = os.pread(self._descriptor, index_bytes + _CHECKSUM_BYTES, start)
        if struct.unpack("<I", tail[index_bytes:])[0] != google_crc32c.value(tail[:index_bytes]):
            raise ValueError("the checksum of the shard index is wrong")
        index = np.frombuffer(tail[:index_bytes], dtype="<u8").reshape(slots, 2)
        self._entries: list[tuple[int, int] | None] = [
            None if first == _EMPTY else (first, count) for first, count in index.tolist()
        ]
        if any(entry is not None and sum(entry) > start for entry in self._entries):
            raise ValueError("the shard index points outside the shard")

    def holds(self, slot: int) -> bool:
        """Tells whether a chunk is there."""
        return self._entries[slot] is not None

    def read(self, slot: int) -> bytes:
        """Reads one chunk.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not there.
        """
        first, count = self._entry(slot)
        data = os.pread(self._descriptor, count, first)
        if len(data) != count:
            raise ValueError(f"chunk {slot} is cut off")
        return data

    def read_into(self, slot: int, parts: Sequence[memoryview]) -> None:
        """Reads one chunk into buffers, one after the other.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not there, or has another size.
        """
        first, count = self._entry(slot)
        wanted = sum(part.nbytes for part in parts)
        if wanted != count:
            raise ValueError(f"chunk {slot} has {count} bytes where {wanted} are expected")
        if os.preadv(self._descriptor, parts, first) != count:
            raise ValueError(f"chunk {slot} is cut off")

    def _entry(self, slot: int) -> tuple[int, int]:
        entry = self._entries[slot]
        if entry is None:
            raise ValueError(f"chunk {slot} is missing")
        return entry
