"""Rows of one array of ours on disk: read a range, or build the files that appended rows need."""

from __future__ import annotations

import functools
import itertools
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.store.codecs import EncodedRows
from robopolicy_datasets.store.layout import ArrayLayout
from robopolicy_datasets.store.shards import Shard, pack_shard
from robopolicy_datasets.store.texts import decode_texts, encode_texts
from robopolicy_datasets.store.threads import for_each

_Out = TypeVar("_Out")
_MOST_OPEN_SHARDS = 256
_MOST_RUN_BYTES = 1 << 20  # decoded; what is read at once stays in the processor's cache


class _OpenShards:
    """The shards that were opened last, of all arrays: a process may have only so many files open."""

    def __init__(self) -> None:
        self._shards: OrderedDict[tuple[int, int], Shard] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, array: int, block: int) -> Shard | None:
        """Returns an open shard of an array, which is known by a number of its own."""
        return self._shards.get((array, block))

    def put(self, array: int, block: int, shard: Shard) -> Shard:
        """Keeps a shard open, in place of the oldest one where there are many; returns it."""
        with self._lock:
            self._shards[array, block] = shard
            self._shards.move_to_end((array, block))
            if len(self._shards) > _MOST_OPEN_SHARDS:
                self._shards.popitem(last=False)
        return shard

    def forget(self, array: int) -> None:
        """Lets go of the shards of an array."""
        for key in [key for key in list(self._shards) if key[0] == array]:
            self._shards.pop(key, None)


_open_shards = _OpenShards()
_numbers = itertools.count()


class BlockArray:
    """The blocks of one array.

    Args:
        folder: the array's folder.
        layout: how it is laid out.
        rows: rows that its metadata declares (the committed ones and perhaps an unfinished episode's).
    """

    def __init__(self, folder: Path, layout: ArrayLayout, rows: int = 0) -> None:
        self.folder = folder
        self.layout = layout
        self.rows = rows
        self._number = next(_numbers)
        weakref.finalize(self, _open_shards.forget, self._number)

    @classmethod
    def open(cls, folder: Path, wanted: ArrayLayout | None = None) -> BlockArray:
        """Opens the array in ``folder``.

        Args:
            folder: the array's.
            wanted: whose rows it must have.

        Raises:
            StoreError: the metadata is missing, damaged, or not of our layout.
        """
        layout, rows = ArrayLayout.from_metadata(folder)
        if wanted and (layout.row_shape, layout.data_type) != (wanted.row_shape, wanted.data_type):
            raise StoreError(
                f"{folder} is {layout.data_type}{list(layout.row_shape)} a row; expected is "
                f"{wanted.data_type}{list(wanted.row_shape)}. Restore the store from a copy."
            )
        return cls(folder, layout, rows)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one row."""
        return self.layout.row_shape

    @property
    def dtype(self) -> str:
        """The element type's name."""
        return self.layout.data_type

    @property
    def codec(self) -> str:
        """The codec of its chunks, as it is written in settings."""
        return self.layout.codec.text

    def missing_blocks(self, rows: int) -> list[str]:
        """Returns the names of the files that the first ``rows`` rows need and that are not there."""
        there = {entry.name for entry in os.scandir(self.folder)}
        blocks = min(-(-rows // self.layout.block_rows), len(there) + 1)  # however many rows are declared
        names = [self.layout.block_name(block) for block in range(blocks)]
        return [name for name in names if name not in there]

    def check_blocks(self, rows: int) -> None:
        """Checks that the files of the first ``rows`` rows are there.

        Raises:
            StoreError: names the first that is missing.
        """
        missing = self.missing_blocks(rows)
        if missing:
            raise StoreError(
                f"{self.folder} lacks {len(missing)} of its files (first: {missing[0]}). "
                "Restore the store from a copy."
            )

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Reads rows ``start`` to ``stop`` (exclusive) as ``[stop - start, *row_shape]``.

        Raises:
            StoreError: a block is missing or damaged.
        """
        layout = self.layout
        out = np.empty((max(0, stop - start), *layout.row_shape), dtype=layout.data_type)
        if layout.sharded:
            return self.take(range(start, stop), out)
        spans = self._spans(start, stop)
        for_each(lambda span: self._load_chunk(*span, out[span[2]]), spans, out.nbytes)
        return out

    def take(self, rows: Sequence[int], out: NDArray[Any]) -> NDArray[Any]:
        """Reads single rows, of a sharded array straight from the shards' bytes; in threads where it is much.

        Args:
            rows: N of them.
            out: ``[N, *row_shape]``, filled and returned.

        Raises:
            StoreError: a row is missing or damaged.
        """
        if self.layout.sharded:
            for_each(lambda run: self._load_run(run[0], out[run[1]]), self._runs(rows), out.nbytes)
        else:
            for place, row in enumerate(rows):
                out[place] = self.read(row, row + 1)[0]
        return out

    def read_texts(self, start: int, stop: int) -> list[str]:
        """Reads rows ``start`` to ``stop`` (exclusive) of an array of texts.

        Raises:
            StoreError: a block is missing or damaged.
        """
        texts: list[str] = []
        for block, rows, _ in self._spans(start, stop):
            path = self._path(block)
            try:
                texts += decode_texts(_read(path))[rows]
            except ValueError as error:
                raise _damaged(path, error) from error
        if len(texts) != stop - start:
            raise StoreError(f"{self.folder} lacks {stop - start - len(texts)} entries; it is damaged.")
        return texts

    def encoded(self, rows: NDArray[np.integer]) -> EncodedRows:
        """Reads rows ``[N]`` of a sharded array as they are on disk.

        Raises:
            StoreError: a row is missing or damaged.
        """
        codec = self.layout.codec

        def read(shard: Shard, slot: int) -> bytes:
            (chunk,) = shard.read(slot)
            codec.check(chunk)
            return bytes(chunk)

        chunks = [self._from_shard(row, 1, read) for row in rows.tolist()]
        return EncodedRows(codec, chunks, self.row_shape, self.dtype)

    def extended(self, committed: int, rows: NDArray[Any] | EncodedRows) -> dict[Path, bytes]:
        """Builds the files that hold ``rows`` after the first ``committed`` ones, which are kept.

        Args:
            committed: rows to keep; anything on disk beyond them is replaced.
            rows: ``[n, *row_shape]`` of the array's element type; encoded ones for a sharded array only.

        Returns:
            The content of each new or replaced block.
        """
        layout = self.layout
        if not len(rows):
            return {}
        if layout.sharded:
            return self._extended_shards(committed, self._encode(rows))
        if isinstance(rows, EncodedRows):
            rows = rows.decoded()
        first, kept = divmod(committed, layout.block_rows)
        tail = self.read(committed - kept, committed)
        rows = np.concatenate([tail, rows.astype(layout.data_type, copy=False)])
        files = {}
        for offset in range(0, len(rows), layout.block_rows):
            part = rows[offset : offset + layout.block_rows]
            padding = np.zeros((layout.block_rows - len(part), *layout.row_shape), dtype=layout.data_type)
            path = self._path(first + offset // layout.block_rows)
            files[path] = layout.codec.encode(np.concatenate([part, padding]))
        return files

    def extended_texts(self, committed: int, texts: Sequence[str]) -> dict[Path, bytes]:
        """Builds the files that hold ``texts`` after the first ``committed`` ones."""
        size = self.layout.block_rows
        first = committed // size
        everything = [*self.read_texts(first * size, committed), *texts]
        files = {}
        for offset in range(0, len(everything), size):
            part = everything[offset : offset + size]
            files[self._path(first + offset // size)] = encode_texts(part, size)
        return files

    def _encode(self, rows: NDArray[Any] | EncodedRows) -> Sequence[bytes]:
        if isinstance(rows, EncodedRows) and rows.codec == self.layout.codec:
            return rows.chunks
        rows = rows.decoded() if isinstance(rows, EncodedRows) else np.ascontiguousarray(rows)
        return for_each(self.layout.codec.encode, rows, rows.nbytes)

    def _extended_shards(self, committed: int, new: Sequence[bytes]) -> dict[Path, bytes]:
        size = self.layout.block_rows
        first, kept = divmod(committed, size)
        chunks: list[bytes | memoryview] = []
        if kept:
            chunks += self._from_shard(committed - kept, kept, lambda shard, slot: shard.read(slot, kept))
        chunks += new
        return {
            self._path(first + offset // size): pack_shard(chunks[offset : offset + size], size)
            for offset in range(0, len(chunks), size)
        }

    def _spans(self, start: int, stop: int) -> list[tuple[int, slice, slice]]:
        """Returns (block, rows within the block, rows within the result) for a range of rows."""
        size = self.layout.block_rows
        spans = []
        for block in range(start // size, -(-stop // size)):
            low, high = max(start, block * size), min(stop, (block + 1) * size)
            if low < high:
                inner = slice(low - block * size, high - block * size)
                spans.append((block, inner, slice(low - start, high - start)))
        return spans

    def _load_chunk(self, block: int, rows: slice, _: slice, out: NDArray[Any]) -> None:
        path = self._path(block)
        whole = np.empty((self.layout.block_rows, *self.layout.row_shape), dtype=self.layout.data_type)
        try:
            self.layout.codec.decode(_read(path), whole)
        except ValueError as error:
            raise _damaged(path, error) from error
        out[...] = whole[rows]

    @functools.cached_property
    def _most_in_run(self) -> int:
        return max(1, _MOST_RUN_BYTES // self.layout.row_bytes)

    def _runs(self, rows: Sequence[int]) -> list[tuple[int, slice]]:
        """Groups rows that lie one after the other in a shard, to be read at once.

        Returns:
            The first row of each run, and the places of all of them in ``rows``.
        """
        starts: list[int] = []
        for place, row in enumerate(rows):
            new = not starts or row != rows[place - 1] + 1 or row % self.layout.block_rows == 0
            if new or place - starts[-1] == self._most_in_run:
                starts.append(place)
        return [(rows[start], slice(start, stop)) for start, stop in pairwise([*starts, len(rows)])]

    def _load_run(self, row: int, out: NDArray[Any]) -> None:
        self._from_shard(row, len(out), lambda shard, slot: self.layout.codec.load(shard, slot, out))

    def _from_shard(self, row: int, count: int, read: Callable[[Shard, int], _Out]) -> _Out:
        """Returns what ``read`` makes of the open shard that holds some rows, and the slot of the first.

        Raises:
            StoreError: the shard is missing, damaged or cannot be read; names the file.
        """
        block, slot = divmod(row, self.layout.block_rows)
        try:
            shard = _open_shards.get(self._number, block)
            if shard is None or not shard.holds(slot, count):  # a writer may have replaced the file since
                shard = _open_shards.put(
                    self._number, block, Shard(self._path(block), self.layout.block_rows)
                )
            return read(shard, slot)
        except FileNotFoundError as error:
            raise _missing(self._path(block)) from error
        except OSError as error:
            raise StoreError(f"{self._path(block)} cannot be read: {error.strerror}.") from error
        except ValueError as error:
            raise _damaged(self._path(block), error) from error

    def _path(self, block: int) -> Path:
        return self.folder / self.layout.block_name(block)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise _missing(path) from error
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}.") from error


def _missing(path: Path) -> StoreError:
    return StoreError(f"{path} is missing: the store is incomplete. Restore it from a copy.")


def _damaged(path: Path, error: Exception) -> StoreError:
    return StoreError(f"{path} is damaged ({error}). Restore the store from a copy.")
