"""Parquet files and their columns as numpy arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import missing_extra
from robopolicy_datasets.exchange.lerobot.folder import damaged

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 256  # images lie in such rows too
_MAX_ROWS = 1 << 31


def load_pyarrow() -> ModuleType:
    """Imports pyarrow with its parquet part.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise missing_extra("Reading and writing LeRobot data sets", "formats") from error
    return pyarrow


@contextmanager
def reading(path: Path) -> Iterator[ModuleType]:
    """Turns whatever pyarrow raises inside the ``with`` block into one error; lends pyarrow.

    Raises:
        StoreError: the file is damaged.
    """
    pa = load_pyarrow()
    try:
        yield pa
    except (
        *(pa.ArrowException, OSError, ValueError, TypeError, KeyError, IndexError, AttributeError),
        *(OverflowError, MemoryError, NotImplementedError, RecursionError),
    ) as error:
        raise damaged(path, error) from error


def read_spans(path: Path, columns: Sequence[str], spans: Sequence[tuple[int, int]]) -> Iterator[pa.Table]:
    """Reads ranges of rows, one table each; no more of the file is in memory than one of them.

    Args:
        path: the parquet file.
        columns: those to read; every one is there afterwards.
        spans: (first, end) of each range, in increasing order and without overlap.

    Raises:
        StoreError: the file is damaged, lacks a column, or is too short.
    """
    with reading(path) as pa:
        file = pa.parquet.ParquetFile(path, page_checksum_verification=True)
        check_columns(path, file, columns)
        rows = file.metadata.num_rows
        if rows < spans[-1][1]:
            raise damaged(path, f"it has {rows} rows, but its episodes need {spans[-1][1]}")
        batches = _batches(file, columns, spans)
        first, batch = next(batches, (0, None))
        for start, stop in spans:
            parts = []
            row = start
            while batch is not None and row < stop:
                if first <= row < first + len(batch):
                    taken = min(stop, first + len(batch)) - row
                    parts.append(batch.slice(row - first, taken))
                    row += taken
                if row < stop:
                    first, batch = next(batches, (0, None))
            if row < stop:
                raise damaged(path, f"it ends at row {row}, but its metadata says {rows}")
            yield pa.Table.from_batches(parts)


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Reads whole columns of a small file.

    Raises:
        StoreError: the file is damaged, lacks a column, or is too large.
    """
    with reading(path) as pa:
        file = pa.parquet.ParquetFile(path, page_checksum_verification=True)
        check_columns(path, file, columns)
        if not 0 < file.metadata.num_rows < _MAX_ROWS:
            raise damaged(path, f"it has {file.metadata.num_rows} rows")
        return file.read(columns=list(columns), use_threads=False)


def column_names(path: Path) -> list[str]:
    """Returns the names of the columns of a parquet file.

    Raises:
        StoreError: the file is damaged.
    """
    with reading(path) as pa:
        return list(pa.parquet.ParquetFile(path).schema_arrow.names)


def check_columns(path: Path, file: Any, columns: Sequence[str]) -> None:
    """Checks that an open parquet file has the columns.

    Raises:
        StoreError: names those that it lacks.
    """
    names = file.schema_arrow.names
    missing = [column for column in columns if names.count(column) != 1]
    if missing:
        raise damaged(path, f"it lacks the column {', '.join(missing)}; it has {', '.join(names)}")


def numbers(table: pa.Table, key: str, shape: tuple[int, ...], dtype: str, path: Path) -> NDArray[Any]:
    """Returns a column as ``[rows, *shape]``.

    Args:
        table: the rows.
        key: the column.
        shape: of one row; ``()`` and ``(1,)`` are plain columns, others lists.
        dtype: numpy's name of the type that is asked for.
        path: of the file, for messages.

    Raises:
        StoreError: the column is of another shape or type, or a value is missing.
    """
    with reading(path) as pa:
        array = _unpacked(table.column(key))
        rows, size = len(array), math.prod(shape)
        while not _is_flat(pa, array):
            if array.null_count:
                raise damaged(path, f"'{key}' has rows without a value")
            lengths = array.value_lengths() if not pa.types.is_fixed_size_list(array.type) else None
            width = array.type.list_size if lengths is None else lengths[0].as_py() if len(array) else 0
            if width < 1 or (
                lengths is not None and pa.compute.any(pa.compute.not_equal(lengths, width)).as_py()
            ):
                raise damaged(path, f"'{key}' has rows of different sizes; {list(shape)} is expected")
            array = _unpacked(array.flatten())
        if array.null_count or len(array) != rows * size:
            found = f"{len(array) / max(rows, 1):g} numbers a row, {array.null_count} missing"
            raise damaged(path, f"'{key}' has {found}; the shape {list(shape)} is expected")
        values = array.to_numpy(zero_copy_only=False)
        wanted = np.dtype(dtype)
        both_floating = values.dtype.kind == "f" and wanted.kind == "f"
        if values.dtype.kind not in "biuf" or not (
            both_floating or np.can_cast(values.dtype, wanted, "safe")
        ):
            raise damaged(path, f"'{key}' is {array.type} but {dtype} is expected")
        return np.asarray(values.astype(wanted, copy=False).reshape(rows, *shape))


def texts(table: pa.Table, key: str, path: Path) -> list[Any]:
    """Returns a column as Python values: texts, or lists of them.

    Raises:
        StoreError: the column is damaged.
    """
    with reading(path):
        return list(table.column(key).to_pylist())


def blobs(table: pa.Table, key: str, path: Path) -> list[bytes]:
    """Returns the encoded images of a column: bytes, or structures with ``bytes``.

    Raises:
        StoreError: there are no bytes in it.
    """
    with reading(path) as pa:
        array = _unpacked(table.column(key))
        if pa.types.is_struct(array.type):
            array = array.field("bytes")
        if not (pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type)):
            raise damaged(path, f"'{key}' is {array.type}; encoded images are expected")
        if array.null_count:
            raise damaged(path, f"'{key}' has rows without bytes; images in files of their own are not read")
        return list(array.to_pylist())


def to_arrow(values: NDArray[Any]) -> pa.Array:
    """Builds a column of ``[rows, *shape]``: plain, lists of fixed size, or nested lists."""
    pa = load_pyarrow()
    array = pa.array(values.reshape(-1))
    if values[0].size == 1 and values.ndim <= 2:
        return array
    if values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(array, values.shape[1])
    for axis in range(values.ndim - 1, 0, -1):
        width = values.shape[axis]
        offsets = np.arange(0, len(array) + 1, width, dtype=np.int32)
        array = pa.ListArray.from_arrays(offsets, array)
    return array


def _batches(
    file: Any, columns: Sequence[str], spans: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yields the batches of the row groups that a span needs, each with the row that it begins at."""
    first = 0
    for group in range(file.metadata.num_row_groups):
        end = first + file.metadata.row_group(group).num_rows
        if any(start < end and first < stop for start, stop in spans):
            row = first
            for batch in file.iter_batches(
                _BATCH_ROWS, row_groups=[group], columns=list(columns), use_threads=False
            ):
                yield row, batch
                row += len(batch)
        first = end


def _unpacked(column: Any) -> Any:
    """Returns one plain array for a column in pieces or of an extension type."""
    array = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    if hasattr(array, "num_chunks"):  # an empty column stays in pieces
        array = array.chunk(0)
    return getattr(array, "storage", array)


def _is_flat(pa: ModuleType, array: Any) -> bool:
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return not any(is_kind(array.type) for is_kind in kinds)
