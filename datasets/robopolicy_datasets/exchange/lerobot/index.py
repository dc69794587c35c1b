"""Where the rows and frames of each episode lie: v2.1 has files for each, v3.0 shares them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from robopolicy_datasets.errors import ConfigError, StoreError
from robopolicy_datasets.exchange.lerobot.folder import Folder, damaged
from robopolicy_datasets.exchange.lerobot.info import V2, Info
from robopolicy_datasets.exchange.lerobot.tables import column_names, numbers, read_columns, texts

_EPISODES_V2 = "meta/episodes.jsonl"
_TASKS_V2 = "meta/tasks.jsonl"
_EPISODES_V3 = "meta/episodes/*/*.parquet"
_TASKS_V3 = "meta/tasks.parquet"
_TASK_COLUMNS = ("task", "__index_level_0__")  # pandas names an index without a name so
_MAX_LENGTH = 100_000_000


@dataclass(frozen=True)
class Clip:
    """Where an episode's frames lie.

    Attributes:
        file: the video, relative to the folder.
        start_s: the video's time at the episode's time 0 [s].
    """

    file: str
    start_s: float


@dataclass(frozen=True)
class Entry:
    """Where an episode lies.

    Attributes:
        episode: its number.
        length: its steps.
        file: the parquet file, relative to the folder.
        start: its first row there.
        clips: by the key of each video feature.
    """

    episode: int
    length: int
    file: str
    start: int
    clips: Mapping[str, Clip] = field(default_factory=dict)


def read_index(folder: Folder, info: Info, videos: Sequence[str], wanted: Sequence[int]) -> list[Entry]:
    """Reads where the episodes lie.

    Args:
        folder: the data set.
        info: what it says of itself.
        videos: the video features that are needed.
        wanted: the episodes that are needed, in this order; empty for all.

    Raises:
        StoreError: the index is missing, damaged or contradicts itself.
        ConfigError: there is no such episode.
    """
    read = _read_v2 if info.version == V2 else _read_v3
    entries = sorted(read(folder, info, videos), key=lambda entry: entry.episode)
    if [entry.episode for entry in entries] != list(range(info.episodes)):
        raise StoreError(
            f"{folder.root / 'meta'} lists {len(entries)} episodes, but meta/info.json says {info.episodes}, "
            "numbered from 0. Copy the data set again."
        )
    unknown = [number for number in wanted if not 0 <= number < info.episodes]
    if unknown or len(set(wanted)) < len(wanted):
        raise ConfigError(
            f"format.episodes is {list(wanted)}; {folder.root} has the episodes 0 to {info.episodes - 1}, "
            "each of which may be named once."
        )
    return [entries[number] for number in wanted] if wanted else entries


def read_tasks(folder: Folder, info: Info) -> dict[int, str]:
    """Reads the sentences of the tasks, by their numbers.

    Raises:
        StoreError: they are missing or damaged.
    """
    if info.version == V2:
        path = folder.root / _TASKS_V2
        try:
            rows = [(row["task_index"], row["task"]) for row in folder.read_json_lines(_TASKS_V2)]
        except (KeyError, TypeError, IndexError) as error:
            raise damaged(path, f"a line is not a task ({error})") from error
    else:
        path = folder.file(_TASKS_V3)
        names = column_names(path)
        column = next((name for name in _TASK_COLUMNS if name in names), _TASK_COLUMNS[0])
        table = read_columns(path, ["task_index", column])
        indices = numbers(table, "task_index", (), "int64", path).tolist()
        rows = list(zip(indices, texts(table, column, path), strict=True))
    tasks = {}
    for number, task in rows:
        if not isinstance(number, int) or not isinstance(task, str) or number in tasks:
            raise damaged(path, f"the task {number!r:.40} is {task!r:.40}")
        tasks[number] = task
    return tasks


def _read_v2(folder: Folder, info: Info, videos: Sequence[str]) -> Iterator[Entry]:
    path = folder.root / _EPISODES_V2
    for row in folder.read_json_lines(_EPISODES_V2):
        try:
            episode, length = row["episode_index"], row["length"]
        except (KeyError, TypeError, IndexError) as error:
            raise damaged(path, f"a line is not an episode ({error})") from error
        whole = all(isinstance(value, int) and not isinstance(value, bool) for value in (episode, length))
        if not whole or episode < 0 or not 0 < length <= _MAX_LENGTH:
            raise damaged(path, f"the episode {episode!r:.40} has the length {length!r:.40}")
        names = {"episode_chunk": episode // info.chunk_episodes, "episode_index": episode}
        clips = {
            key: Clip(info.file(folder, info.video_path, {**names, "video_key": key}), 0.0) for key in videos
        }
        yield Entry(episode, length, info.file(folder, info.data_path, names), 0, clips)


def _read_v3(folder: Folder, info: Info, videos: Sequence[str]) -> list[Entry]:
    files = folder.files(_EPISODES_V3)
    if not files:
        raise StoreError(
            f"{folder.root / 'meta' / 'episodes'} has no parquet files. Copy the data set again."
        )
    rows = [row for name in files for row in _rows_v3(folder, info, name, videos)]
    for earlier, later in pairwise(sorted(rows, key=lambda entry: entry.start)):
        if earlier.start + earlier.length > later.start:
            raise damaged(
                folder.root / files[0], f"the episodes {earlier.episode} and {later.episode} share rows"
            )
    first: dict[str, int] = {}  # a file's rows are numbered through the data set
    for entry in rows:
        first[entry.file] = min(entry.start, first.get(entry.file, entry.start))
    return [
        Entry(entry.episode, entry.length, entry.file, entry.start - first[entry.file], entry.clips)
        for entry in rows
    ]


def _rows_v3(folder: Folder, info: Info, name: str, videos: Sequence[str]) -> Iterator[Entry]:
    path = folder.file(name)
    whole = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    whole += ["dataset_from_index", "dataset_to_index"]
    whole += [f"videos/{key}/{part}" for key in videos for part in ("chunk_index", "file_index")]
    times = [f"videos/{key}/from_timestamp" for key in videos]
    table = read_columns(path, [*whole, *times])
    columns: dict[str, list[Any]] = {key: numbers(table, key, (), "int64", path).tolist() for key in whole}
    for key in times:
        values = numbers(table, key, (), "float64", path)
        if not (np.isfinite(values) & (values >= 0) & (values < 1e9)).all():
            raise damaged(path, f"'{key}' is not a time in a video")
        columns[key] = values.tolist()
    for row in range(len(columns["length"])):
        value = {key: column[row] for key, column in columns.items()}
        start, length = value["dataset_from_index"], value["length"]
        if start < 0 or not 0 < length <= _MAX_LENGTH or start + length != value["dataset_to_index"]:
            raise damaged(path, f"episode {value['episode_index']} has {length} steps from row {start} on")
        clips = {}
        for key in videos:
            part = f"videos/{key}/"
            names = {"chunk_index": value[part + "chunk_index"], "file_index": value[part + "file_index"]}
            file = info.file(folder, info.video_path, {"video_key": key, **names})
            clips[key] = Clip(file, value[part + "from_timestamp"])
        names = {"chunk_index": value["data/chunk_index"], "file_index": value["data/file_index"]}
        file = info.file(folder, info.data_path, names)
        yield Entry(value["episode_index"], length, file, start, clips)
