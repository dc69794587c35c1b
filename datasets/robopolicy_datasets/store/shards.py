"""Zarr v3 shards: chunks back to back in one file, and an index of them at its end."""

from __future__ import annotations

import os
import struct
import weakref
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from fastcrc.crc32 import iscsi as crc32c

_EMPTY = 2**64 - 1
_CHECKSUM_BYTES = 4


def pack_shard(chunks: Sequence[bytes | memoryview], slots: int) -> bytes:
    """Builds a shard of ``slots`` chunks, the first ``len(chunks)`` of them present; index at the end."""
    index = np.full((slots, 2), _EMPTY, dtype="<u8")
    sizes = np.array([len(chunk) for chunk in chunks], dtype="<u8")
    index[: len(chunks), 0] = np.cumsum(sizes) - sizes
    index[: len(chunks), 1] = sizes
    index_bytes = index.tobytes()
    return b"".join([*chunks, index_bytes, struct.pack("<I", crc32c(index_bytes))])


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
        if struct.unpack("<I", tail[index_bytes:])[0] != crc32c(tail[:index_bytes]):
            raise ValueError("the checksum of the shard index is wrong")
        index = np.frombuffer(tail[:index_bytes], dtype="<u8").reshape(slots, 2)
        self._entries: list[tuple[int, int] | None] = [
            None if first == _EMPTY else (first, count) for first, count in index.tolist()
        ]
        if any(entry is not None and sum(entry) > start for entry in self._entries):
            raise ValueError("the shard index points outside the shard")

    def holds(self, slot: int, count: int = 1) -> bool:
        """Tells whether chunks ``slot`` to ``slot + count - 1`` are there."""
        return None not in self._entries[slot : slot + count]

    def read(self, slot: int, count: int = 1) -> list[memoryview]:
        """Reads chunks ``slot`` to ``slot + count - 1``, at once where they lie back to back.

        Raises:
            OSError: they cannot be read.
            ValueError: one is not there.
        """
        spans = self._spans(slot, count)
        if not _back_to_back(spans):  # another program's shard
            return [self.read(one)[0] for one in range(slot, slot + count)]
        first, size = spans[0][0], sum(size for _, size in spans)
        data = memoryview(os.pread(self._descriptor, size, first))
        if len(data) != size:
            raise ValueError(f"chunk {slot} or one of the {count - 1} after it is cut off")
        return [data[start - first : start - first + size] for start, size in spans]

    def read_into(self, slot: int, size: int, chunks: Sequence[Sequence[memoryview]]) -> None:
        """Reads the chunks from ``slot`` on, each into buffers of ``size`` bytes in all.

        Raises:
            OSError: they cannot be read.
            ValueError: one is not there, or has another size.
        """
        spans = self._spans(slot, len(chunks))
        if not _back_to_back(spans):
            for number, parts in enumerate(chunks):
                self.read_into(slot + number, size, [parts])
            return
        for number, (_, found) in enumerate(spans, start=slot):
            if found != size:
                raise ValueError(f"chunk {number} has {found} bytes where {size} are expected")
        buffers = [part for parts in chunks for part in parts]
        if os.preadv(self._descriptor, buffers, spans[0][0]) != size * len(chunks):
            raise ValueError(f"chunk {slot} or one of the {len(chunks) - 1} after it is cut off")

    def _spans(self, slot: int, count: int) -> list[tuple[int, int]]:
        """Returns (first byte, bytes) of each chunk."""
        spans = []
        for number, entry in enumerate(self._entries[slot : slot + count], start=slot):
            if entry is None:
                raise ValueError(f"chunk {number} is missing")
            spans.append(entry)
        return spans


def _back_to_back(spans: Sequence[tuple[int, int]]) -> bool:
    return all(first + size == following for (first, size), (following, _) in pairwise(spans))
