"""The parquet and video files of a v3.0 data set, each begun anew when the one before is large enough."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.exchange.configs import LeRobotFormatConfig
from robopolicy_datasets.exchange.lerobot.folder import fill_template
from robopolicy_datasets.exchange.lerobot.images import encode_png
from robopolicy_datasets.exchange.lerobot.tables import load_pyarrow, to_arrow
from robopolicy_datasets.exchange.lerobot.videos import VideoWriter

_INDEX_FILE = "meta/episodes/chunk-000/file-000.parquet"
_TASKS_FILE = "meta/tasks.parquet"
_INDEX_ROWS = 256


class _Files:
    """Numbered files, of which the last is open."""

    TEMPLATE: str

    def __init__(self, root: Path, chunk_files: int, megabytes: int) -> None:
        self._root = root
        self._chunk_files = chunk_files
        self._limit = megabytes << 20
        self._count = 0
        self._writer: Any = None
        self._path = root

    @property
    def _place(self) -> dict[str, int]:
        chunk, file = divmod(self._count - 1, self._chunk_files)
        return {"chunk_index": chunk, "file_index": file}

    def _next_path(self, **names: str) -> Path:
        """Closes the open file and returns the path of the next."""
        self._close()
        self._count += 1
        self._path = self._root / fill_template(self.TEMPLATE, {**self._place, **names})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return self._path

    def _is_full(self) -> bool:
        if self._writer is None:
            return True
        return self._path.exists() and self._path.stat().st_size >= self._limit

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.__exit__(kind, error, trace)


class DataFiles(_Files):
    """The parquet files with the steps; one row group an episode.

    Args:
        root: the data set's folder.
        chunk_files: files in one folder.
        megabytes: the size from which on the next file is begun.
    """

    TEMPLATE = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"

    def __enter__(self) -> DataFiles:
        return self

    def append(
        self, columns: Mapping[str, NDArray[Any]], images: Mapping[str, NDArray[np.uint8]]
    ) -> dict[str, int]:
        """Appends an episode.

        Args:
            columns: ``[T, *shape]`` by key.
            images: likewise ``[T, height, width, 3]``, to be written as PNG.

        Returns:
            Where it lies, as the index of the episodes says it.
        """
        pa = load_pyarrow()
        table = pa.table(
            {key: _encoded(values) for key, values in images.items()}
            | {key: to_arrow(values) for key, values in columns.items()}
        )
        if self._is_full():
            path = self._next_path()
            self._writer = pa.parquet.ParquetWriter(
                path, table.schema, compression="snappy", write_page_checksum=True
            )
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        return {f"data/{name}": number for name, number in self._place.items()}


class VideoFiles(_Files):
    """The videos of one key; several episodes in one.

    Args:
        root: the data set's folder.
        key: LeRobot's key.
        rate_hz: frames per second.
        config: with the codec.
        chunk_files: files in one folder.
        megabytes: the size from which on the next file is begun.
    """

    TEMPLATE = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"

    def __init__(
        self,
        root: Path,
        key: str,
        rate_hz: float,
        config: LeRobotFormatConfig,
        chunk_files: int,
        megabytes: int,
    ) -> None:
        super().__init__(root, chunk_files, megabytes)
        self._key = key
        self._rate_hz = rate_hz
        self._config = config

    def __enter__(self) -> VideoFiles:
        return self

    def append(self, images: NDArray[np.uint8]) -> dict[str, Any]:
        """Appends an episode, uint8 ``[T, height, width, 3]``.

        Returns:
            Where it lies, as the index of the episodes says it.
        """
        if self._is_full():
            path = self._next_path(video_key=self._key)
            height, width = images.shape[1:3]
            self._writer = VideoWriter(
                path, height, width, self._rate_hz, self._config.codec, self._config.crf
            )
        start = self._writer.frames
        for image in images:
            self._writer.append(image)
        found = {
            **self._place,
            "from_timestamp": start / self._rate_hz,
            "to_timestamp": self._writer.frames / self._rate_hz,
        }
        return {f"videos/{self._key}/{name}": value for name, value in found.items()}


def write_index(root: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes where each episode lies, one row an episode, as they come."""
    pa = load_pyarrow()
    path = root / _INDEX_FILE
    path.parent.mkdir(parents=True)
    with ExitStack() as stack:
        writer: Any = None
        for batch in _chunked(rows, _INDEX_ROWS):
            table = pa.Table.from_pylist(batch, None if writer is None else writer.schema)
            if writer is None:
                writer = pa.parquet.ParquetWriter(path, table.schema, write_page_checksum=True)
                stack.enter_context(writer)
            writer.write_table(table)


def write_tasks(root: Path, tasks: Sequence[str]) -> None:
    """Writes the tasks in the order of their numbers, as a pandas table with the sentences as its index."""
    pa = load_pyarrow()
    columns = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": dtype, "metadata": None}
        for name, kind, dtype in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
    ]
    described = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": columns,
        "pandas_version": "2.0.0",
    }
    schema = pa.schema(
        [("task_index", pa.int64()), ("task", pa.string())], metadata={"pandas": json.dumps(described)}
    )
    table = pa.table({"task_index": list(range(len(tasks))), "task": list(tasks)}, schema=schema)
    pa.parquet.write_table(table, root / _TASKS_FILE, write_page_checksum=True)


def _encoded(images: NDArray[np.uint8]) -> Any:
    pa = load_pyarrow()
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": encode_png(image), "path": None} for image in images], kind)


def _chunked(rows: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, size)):
        yield batch
