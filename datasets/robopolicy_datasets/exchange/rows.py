"""Rows of foreign arrays become episodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.exchange.layout import Column, empty_rows, take_next_step
from robopolicy_datasets.store.episode import EpisodeInfo, NewEpisode


class RowSource(Protocol):
    """An array of which rows are read: ``[rows, *row_shape]``, best ``chunk_rows`` at a time."""

    @property
    def rows(self) -> int:
        """Steps."""

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one step."""

    @property
    def dtype(self) -> str:
        """Numpy's name of the element type."""

    @property
    def chunk_rows(self) -> int:
        """Rows that are decoded together."""

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Reads rows ``start`` to ``stop`` (exclusive).

        Raises:
            StoreError: they cannot be read.
        """


class ChunkKeeper:
    """A source that keeps its last chunk, for short reads one after the other: each chunk is decoded once.

    Args:
        source: of any rows; reads must stay within a chunk.
    """

    def __init__(self, source: RowSource) -> None:
        self.rows, self.row_shape, self.dtype = source.rows, source.row_shape, source.dtype
        self.chunk_rows = source.chunk_rows
        self._source = source
        self._first = -1  # row of the chunk that is kept
        self._chunk: NDArray[Any] = np.empty(0)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Reads rows ``start`` to ``stop`` (exclusive) of one chunk.

        Raises:
            StoreError: they cannot be read.
        """
        first = start - start % self.chunk_rows
        if first != self._first:
            self._chunk = self._source.read(first, min(first + self.chunk_rows, self.rows))
            self._first = first
        return self._chunk[start - first : stop - first]


def read_columns(
    array: RowSource,
    columns: Sequence[Column],
    start_row: int,
    stop_row: int,
    out: Mapping[str, NDArray[Any]],
) -> None:
    """Reads the rows chunk by chunk, so that the source's wider type is never in memory as a whole.

    Args:
        array: the source.
        columns: what is wanted of it.
        start_row: the first row.
        stop_row: the row after the last.
        out: by our key ``[stop_row - start_row, *shape]``, to be filled.

    Raises:
        StoreError: they cannot be read, or a value does not fit its feature.
    """
    row = start_row
    while row < stop_row:
        end = min(stop_row, (row // array.chunk_rows + 1) * array.chunk_rows)
        rows = array.read(row, end)
        for column in columns:
            column.put(rows, row, out[column.feature.key][row - start_row : end - start_row])
        row = end


@contextmanager
def naming(place: str | Path) -> Iterator[None]:
    """Says in each error of the ``with`` block where it was.

    Raises:
        StoreError: what the block raised, after ``place``.
    """
    try:
        yield
    except StoreError as error:
        raise StoreError(f"{place}: {error}") from error


def check_usable(layout: Iterable[str], problems: Mapping[str, str]) -> None:
    """Checks that nothing that a layout names is unreadable.

    Raises:
        StoreError: names the first array that is, and why.
    """
    for source in layout:
        if source in problems:
            raise StoreError(
                f"'{source}' cannot be read: {problems[source]}. Or name in the layout what is to be kept."
            )


def read_episode(
    arrays: Mapping[str, RowSource],
    problems: Mapping[str, str],
    columns: Sequence[Column],
    offered: Mapping[str, tuple[tuple[int, ...], str]],
    info: EpisodeInfo,
) -> NewEpisode:
    """Reads an episode that has its arrays to itself.

    Args:
        arrays: by source key.
        problems: by source key, why an array cannot be read.
        columns: what is wanted of them.
        offered: row shape and dtype of each source key, as the first episode has them.
        info: of the episode.

    Raises:
        StoreError: an array is missing, differs from the first episode's, or cannot be read.
    """
    data: dict[str, NDArray[Any]] = {}
    for source in dict.fromkeys(column.source for column in columns):
        check_usable([source], problems)
        if source not in arrays:
            raise StoreError(f"'{source}' is missing. Leave it out in the layout, or complete the file.")
        array = arrays[source]
        found = (array.row_shape, array.dtype)
        if found != offered[source]:
            shape, dtype = offered[source]
            raise StoreError(
                f"'{source}' is {found[1]}{list(found[0])} a step, but {dtype}{list(shape)} in the first "
                "episode. Leave it out in the layout, or import it apart."
            )
        wanted = [column for column in columns if column.source == source]
        try:
            data = {**empty_rows(wanted, array.rows), **data}
            lengths = {len(data[column.feature.key]) for column in wanted}
            if lengths != {array.rows}:
                raise StoreError(
                    f"'{source}' has {array.rows} steps where others of the episode have "
                    f"{max(lengths - {array.rows})}. Leave it out in the layout, or complete the file."
                )
            read_columns(array, wanted, 0, array.rows, data)
        except MemoryError as error:
            raise StoreError(
                f"'{source}' has {array.rows} steps, for which the memory is too small. Use shorter episodes."
            ) from error
    take_next_step(data, columns)
    return NewEpisode(data, info)
