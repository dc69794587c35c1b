"""The rows of one array on their way to the disk: encoded in threads, every full block durable at once.

What remains at the end is one block at most, so that a commit has little left to do however long it all was.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.store.blocks import BlockArray
from robopolicy_datasets.store.codecs import EncodedRows
from robopolicy_datasets.store.transaction import write_durably

_WAIT_S = 0.001


class MemoryBudget:
    """Bytes that wait to be encoded, up to a limit; whoever brings more waits.

    Args:
        limit: in bytes. A single larger piece passes when nothing else waits.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._used = limit, 0
        self._refusal = ""
        self._lock = threading.Lock()  # no Condition: an interrupt as it is left would lock it for good

    def take(self, num_bytes: int) -> None:
        """Waits until there is room.

        Raises:
            StoreError: no more is taken, see ``close``; also while waiting.
        """
        while True:
            self.check()
            with self._lock:
                if not self._used or self._used + num_bytes <= self._limit:
                    self._used += num_bytes
                    return
            time.sleep(_WAIT_S)

    def give_back(self, num_bytes: int) -> None:
        """Makes room."""
        with self._lock:
            self._used -= num_bytes

    def close(self, refusal: str) -> None:
        """Lets nobody wait or take any more; the first ``refusal`` is what they are told."""
        self._refusal = self._refusal or refusal

    def check(self) -> None:
        """Sees that more is taken.

        Raises:
            StoreError: see ``close``.
        """
        if self._refusal:
            raise StoreError(self._refusal)


class ArraySpool:
    """The new rows of one array; for one thread.

    Args:
        array: which they shall extend.
        committed: rows of the array that are kept.
        folder: of its own, where finished blocks lie until the commit, on the file system of the array.
        pool: encodes and writes. It must start its tasks in order.
        failed: called when the disk refuses a block; it is then kept in memory.

    Attributes:
        rows: taken so far.
    """

    def __init__(
        self,
        array: BlockArray,
        committed: int,
        folder: Path,
        pool: ThreadPoolExecutor,
        failed: Callable[[OSError], None],
    ) -> None:
        self.array = array
        self._folder, self._pool, self._failed = folder, pool, failed
        self.rows = 0
        self._start = committed  # of the pending rows
        self._pending: list[NDArray[Any] | Future[bytes]] = []
        self._num_pending = 0
        self._blocks: list[Future[tuple[Path, bytes | Path]]] = []

    def append(self, rows: NDArray[Any], encoded: Callable[[int], None]) -> None:
        """Takes rows ``[n, *shape]`` of the array's dtype, which must not change afterwards.

        Args:
            rows: to take over.
            encoded: called with a number of bytes when they are not held in full any more.
        """
        size = self.array.layout.block_rows
        self.rows += len(rows)
        while len(rows):
            part = rows[: size - (self._start + self._num_pending) % size]
            rows = rows[len(part) :]
            if self.array.layout.sharded:
                self._pending += [self._pool.submit(self._encode, row, encoded) for row in part]
            else:
                self._pending.append(part)
                encoded(part.nbytes)
            self._num_pending += len(part)
            if (self._start + self._num_pending) % size == 0:
                self._blocks.append(self._pool.submit(self._write, self._start, self._pending))
                self._start, self._pending, self._num_pending = self._start + self._num_pending, [], 0

    def files(self) -> dict[Path, bytes | Path]:
        """Waits for the blocks; returns the content of each, or the durable file that has it.

        A block that a commit has moved to its place before it failed is left out.
        """
        rest = self.array.extended(self._start, self._rows(self._pending)) if self._pending else {}
        blocks = dict(block.result() for block in self._blocks)
        return {
            path: data for path, data in blocks.items() if isinstance(data, bytes) or data.exists()
        } | rest

    def _encode(self, row: NDArray[Any], encoded: Callable[[int], None]) -> bytes:
        try:
            return self.array.layout.codec.encode(row)
        finally:
            encoded(row.nbytes)

    def _write(self, start: int, pieces: Sequence[NDArray[Any] | Future[bytes]]) -> tuple[Path, bytes | Path]:
        """Builds and writes a block; the pieces were submitted before it, so that they are under way."""
        ((path, content),) = self.array.extended(start, self._rows(pieces)).items()
        try:
            return path, write_durably(self._folder / path.name, content)
        except OSError as error:
            self._failed(error)
            return path, content

    def _rows(self, pieces: Sequence[NDArray[Any] | Future[bytes]]) -> NDArray[Any] | EncodedRows:
        """Joins pieces, waiting for those that are being encoded."""
        arrays = [piece for piece in pieces if isinstance(piece, np.ndarray)]
        if arrays:
            return np.concatenate(arrays)
        layout = self.array.layout
        chunks = [piece.result() for piece in pieces if isinstance(piece, Future)]
        return EncodedRows(layout.codec, chunks, layout.row_shape, layout.data_type)
