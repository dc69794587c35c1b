"""The steps of episodes: from the columns and videos of a LeRobot data set to what a store appends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import NANOSECONDS
from robopolicy_datasets.exchange.layout import Column, empty_rows, take_next_step
from robopolicy_datasets.exchange.lerobot.folder import Folder, damaged
from robopolicy_datasets.exchange.lerobot.images import decode_image
from robopolicy_datasets.exchange.lerobot.index import Entry
from robopolicy_datasets.exchange.lerobot.info import IMAGE, TIME_FIELD, VIDEO, Field, Info
from robopolicy_datasets.exchange.lerobot.tables import blobs, numbers, read_spans
from robopolicy_datasets.exchange.lerobot.videos import read_frames
from robopolicy_datasets.exchange.record import Record
from robopolicy_datasets.spec import Spec
from robopolicy_datasets.store.episode import EpisodeInfo, NewEpisode

if TYPE_CHECKING:
    import pyarrow as pa

_MAX_EPISODE_BYTES = 16 << 30
_SUCCESS = "next.success"


@dataclass(frozen=True)
class Plan:
    """What is read of a data set, and how.

    Attributes:
        folder: the data set.
        info: what it says of itself.
        columns: what becomes of its features.
        spec: of the store.
        tasks: their sentences by their numbers.
        record: what an export of ours has kept.
        tolerance_ns: how far a frame may be from its step [ns].
    """

    folder: Folder
    info: Info
    columns: Sequence[Column]
    spec: Spec
    tasks: Mapping[int, str]
    record: Record | None
    tolerance_ns: int

    @property
    def fields(self) -> list[Field]:
        """The source features that are needed."""
        return [self.info.fields[key] for key in dict.fromkeys(column.source for column in self.columns)]

    @property
    def row_bytes(self) -> int:
        """Decoded bytes of one step in the store."""
        return sum(feature.size * np.dtype(feature.dtype).itemsize for feature in self.spec.features)

    @property
    def table_columns(self) -> list[str]:
        """The columns of the parquet files that are needed."""
        keys = [field.key for field in self.fields if field.dtype != VIDEO]
        keys += ["timestamp", "episode_index", "task_index"]
        if _SUCCESS in self.info.fields:
            keys.append(_SUCCESS)
        if self.info.has_time:
            keys.append(TIME_FIELD)
        return list(dict.fromkeys(keys))


def read_episodes(plan: Plan, entries: Sequence[Entry]) -> Iterator[tuple[Entry, NewEpisode]]:
    """Reads episodes, one at a time.

    Raises:
        StoreError: a file is damaged, or does not hold what the index says.
    """
    source_bytes = sum(field.row_bytes for field in plan.fields)
    for together in _runs(entries):
        path = plan.folder.file(together[0].file)
        spans = [(entry.start, entry.start + entry.length) for entry in together]
        for entry in together:
            size = entry.length * max(plan.row_bytes, source_bytes)
            if size > _MAX_EPISODE_BYTES:
                raise damaged(
                    path,
                    f"episode {entry.episode} is {size} bytes when decoded; at most {_MAX_EPISODE_BYTES} are "
                    "held in memory. Leave features out with format.layout",
                )
        tables = read_spans(path, plan.table_columns, spans)
        for entry, table in zip(together, tables, strict=True):
            yield entry, _episode(plan, entry, table, path)


def _runs(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Yields the entries in parts that one pass over one file can read."""
    run: list[Entry] = []
    for entry in entries:
        if run and (entry.file != run[-1].file or entry.start < run[-1].start + run[-1].length):
            yield run
            run = []
        run.append(entry)
    if run:
        yield run


def _episode(plan: Plan, entry: Entry, table: pa.Table, path: Path) -> NewEpisode:
    numbered = numbers(table, "episode_index", (), "int64", path)
    if (numbered != entry.episode).any():
        found = int(numbered[numbered != entry.episode][0])
        raise damaged(path, f"rows of episode {found} are where episode {entry.episode} should be")
    seconds = numbers(table, "timestamp", (), "float64", path)
    if not (np.isfinite(seconds) & (np.abs(seconds) < 1e9)).all() or (np.diff(seconds) <= 0).any():
        raise damaged(path, f"the timestamps of episode {entry.episode} do not increase")
    periods = float(np.median(np.diff(seconds))) * plan.info.fps if entry.length > 1 else 1.0
    if not 0.5 < periods < 2:
        raise damaged(
            path,
            f"the timestamps of episode {entry.episode} are {plan.info.fps / periods:g} a second, "
            f"but meta/info.json says {plan.info.fps:g}",
        )
    data = empty_rows(plan.columns, entry.length)
    for field in plan.fields:
        rows = _field_rows(plan, entry, field, table, seconds, path)
        for column in plan.columns:
            if column.source == field.key:
                column.put(rows, 0, data[column.feature.key])
    take_next_step(data, plan.columns)
    info = _episode_info(plan, entry, table, path)
    time_ns = np.round(seconds * NANOSECONDS).astype(np.int64)
    if plan.info.has_time:
        time_ns = numbers(table, TIME_FIELD, (), "int64", path)
    return NewEpisode(data, info, time_ns)


def _field_rows(
    plan: Plan, entry: Entry, field: Field, table: pa.Table, seconds: NDArray[np.float64], path: Path
) -> NDArray[Any]:
    if not field.is_image:
        return numbers(table, field.key, field.shape, field.dtype, path)
    height, width, _ = field.shape
    if field.dtype == IMAGE:
        images = np.empty((entry.length, *field.shape), np.uint8)
        for step, blob in enumerate(blobs(table, field.key, path)):
            try:
                images[step] = decode_image(blob, height, width)
            except ValueError as error:
                raise damaged(
                    path, f"'{field.key}', step {step} of episode {entry.episode}: {error}"
                ) from error
        return images
    clip = entry.clips[field.key]
    time_ns = np.round((seconds + clip.start_s) * NANOSECONDS).astype(np.int64)
    return read_frames(plan.folder.file(clip.file), time_ns, plan.tolerance_ns, height, width)


def _episode_info(plan: Plan, entry: Entry, table: pa.Table, path: Path) -> EpisodeInfo:
    if plan.record is not None:
        return plan.record.infos[entry.episode]
    indices = dict.fromkeys(numbers(table, "task_index", (), "int64", path).tolist())
    unknown = [index for index in indices if index not in plan.tasks]
    if unknown:
        raise damaged(
            path, f"episode {entry.episode} has the task {unknown[0]}, which meta/tasks does not list"
        )
    success = None
    if _SUCCESS in plan.info.fields:
        field = plan.info.fields[_SUCCESS]
        success = bool(numbers(table, _SUCCESS, field.shape, field.dtype, path).any())
    task = "; ".join(plan.tasks[index] for index in indices)
    return EpisodeInfo(task=task, success=success, embodiment=plan.info.robot)
