"""Export of a store as a LeRobot v3.0 data set."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.exchange.configs import LeRobotFormatConfig
from robopolicy_datasets.exchange.lerobot import statistics
from robopolicy_datasets.exchange.lerobot.files import (
    DataFiles,
    VideoFiles,
    write_index,
    write_tasks,
)
from robopolicy_datasets.exchange.lerobot.info import BOOKKEEPING, IMAGE, INFO_FILE, TIME_FIELD, V3, VIDEO
from robopolicy_datasets.exchange.lerobot.plan import described, plan_outputs
from robopolicy_datasets.exchange.lerobot.record import write_record
from robopolicy_datasets.exchange.lerobot.tables import load_pyarrow
from robopolicy_datasets.exchange.lerobot.videos import check_codec, pixel_format
from robopolicy_datasets.exchange.outputs import Output, open_for_export, record_of
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.store.episode import Episode
from robopolicy_datasets.store.layout import TIME_KEY
from robopolicy_datasets.store.staging import staged, sync_files

_CHUNK_FILES = 1000
_DATA_MB, _VIDEO_MB = 100, 200
_SUCCESS = "next.success"


def export_store(
    config: LeRobotFormatConfig,
    source: str | Path,
    target: str | Path,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes a store as a LeRobot v3.0 data set; the target appears complete or not at all.

    LeRobot's timestamps are multiples of the period, as its readers need them. The steps' own times are in
    the column ``time_ns``, and what else LeRobot has no place for is in ``meta/robopolicy.json``: both are
    used when the data set is imported again.

    Args:
        config: which keys, and how images are written.
        source: the store.
        target: the new folder; must not exist.
        progress: called with (episodes done, episodes in all).

    Raises:
        StoreError: the store cannot be read, has no episodes or rate, or the target exists or cannot be
            written.
        ConfigError: the settings are not valid or do not fit the store.
        MissingExtraError: pyarrow or PyAV is not installed.
    """
    config.refuse_given("layout", "features", "next_step", "episodes", "tolerance_s", verb="export")
    load_pyarrow()
    check_codec(config.codec, config.crf)
    store = open_for_export(source)
    outputs = plan_outputs(store.spec, config.keys, IMAGE if config.codec == "png" else VIDEO)
    with staged(Path(source), target, "exported") as staging:
        _Export(config, store, outputs, staging).run(progress)
        sync_files(staging)


@dataclass
class _Export:
    """One export into an empty place."""

    config: LeRobotFormatConfig
    store: DemoStore
    outputs: Sequence[Output]
    root: Path

    def run(self, progress: Callable[[int, int], None] | None) -> None:
        (self.root / "meta").mkdir(parents=True)
        infos = [self.store.episode_info(index) for index in range(len(self.store))]
        self._tasks = {task: number for number, task in enumerate(dict.fromkeys(info.task for info in infos))}
        self._judged = all(info.success is not None for info in infos)
        self._counts: dict[str, NDArray[np.int64]] = {}
        write_index(self.root, self._write_episodes(progress))
        write_tasks(self.root, list(self._tasks))
        self._write_json("meta/stats.json", self._all_statistics())
        self._write_json(INFO_FILE, self._info())
        write_record(self.root, record_of(self.store, self.outputs))

    def _write_episodes(self, progress: Callable[[int, int], None] | None) -> Iterator[dict[str, Any]]:
        """Writes all frames and rows; yields each episode's row of the index."""
        with ExitStack() as stack:
            data = stack.enter_context(DataFiles(self.root, _CHUNK_FILES, _DATA_MB))
            videos = {
                output.key: stack.enter_context(
                    VideoFiles(
                        self.root, output.key, self.store.rate_hz, self.config, _CHUNK_FILES, _VIDEO_MB
                    )
                )
                for output in self.outputs
                if output.dtype == VIDEO
            }
            for index in range(len(self.store)):
                yield self._write_episode(self._read(index), data, videos)
                if progress is not None:
                    progress(index + 1, len(self.store))

    def _read(self, index: int) -> Episode:
        try:
            return self.store.episode(index)
        except StoreError as error:
            raise StoreError(str(error)) from error

    def _write_episode(
        self, episode: Episode, data: DataFiles, videos: dict[str, VideoFiles]
    ) -> dict[str, Any]:
        start = int(self.store.episode_ends[episode.index]) - episode.length
        row: dict[str, Any] = {"episode_index": episode.index, "tasks": [episode.info.task]}
        row["length"] = episode.length
        found: dict[str, statistics.Statistics] = {}
        images: dict[str, NDArray[np.uint8]] = {}
        columns = self._bookkeeping(episode, start)
        for output in self.outputs:
            values = output.gather(episode.data)
            if output.dtype == VIDEO:
                row |= videos[output.key].append(values)
            elif output.dtype == IMAGE:
                images[output.key] = values
            else:
                columns[output.key] = values
            if output.dtype in (VIDEO, IMAGE):
                counts = statistics.histogram(values)
                self._counts[output.key] = self._counts.get(output.key, 0) + counts
                found[output.key] = statistics.of_histogram(counts)
        found |= {key: statistics.of_numbers(values) for key, values in columns.items()}
        row |= data.append(columns, images)
        row |= {"dataset_from_index": start, "dataset_to_index": start + episode.length}
        row |= {f"stats/{key}/{name}": value for key, part in found.items() for name, value in part.items()}
        return row | {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}

    def _bookkeeping(self, episode: Episode, start: int) -> dict[str, NDArray[Any]]:
        steps = np.arange(episode.length)
        columns: dict[str, NDArray[Any]] = {
            "timestamp": (steps / self.store.rate_hz).astype(np.float32),
            "frame_index": steps,
            "episode_index": np.full(episode.length, episode.index),
            "index": steps + start,
            "task_index": np.full(episode.length, self._tasks[episode.info.task]),
            TIME_FIELD: self.store.array(TIME_KEY)[start : start + episode.length],
        }
        if self._judged:
            columns[_SUCCESS] = (steps == episode.length - 1) & bool(episode.info.success)
        return columns

    def _all_statistics(self) -> dict[str, statistics.Statistics]:
        found = {key: statistics.of_histogram(counts) for key, counts in self._counts.items()}
        for output in self.outputs:
            if output.key not in found:
                keys = [feature.key for feature in output.features]
                found[output.key] = statistics.of_numbers(
                    output.gather({key: self.store.array(key) for key in keys})
                )
        return found

    def _info(self) -> dict[str, Any]:
        rate = self.store.rate_hz
        dtypes = {name: "float32" if name == "timestamp" else "int64" for name in BOOKKEEPING}
        if self._judged:
            dtypes[_SUCCESS] = "bool"
        features = {output.key: self._described(output) for output in self.outputs}
        features |= {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in dtypes.items()}
        robots = Counter(self.store.episode_info(index).embodiment for index in range(len(self.store)))
        return {
            "codebase_version": V3,
            "robot_type": robots.most_common(1)[0][0] or None,
            "total_episodes": len(self.store),
            "total_frames": self.store.num_steps,
            "total_tasks": len(self._tasks),
            "chunks_size": _CHUNK_FILES,
            "data_files_size_in_mb": _DATA_MB,
            "video_files_size_in_mb": _VIDEO_MB,
            "fps": int(rate) if rate == int(rate) else rate,
            "splits": {"train": f"0:{len(self.store)}"},
            "data_path": DataFiles.TEMPLATE,
            "video_path": VideoFiles.TEMPLATE if any(o.dtype == VIDEO for o in self.outputs) else None,
            "features": features,
        }

    def _described(self, output: Output) -> dict[str, Any]:
        feature = described(output)
        if output.dtype == VIDEO:
            height, width, channels = output.shape
            feature["info"] = {
                "video.height": height,
                "video.width": width,
                "video.codec": {"libsvtav1": "av1", "libx264": "h264"}[self.config.codec],
                "video.pix_fmt": pixel_format(height, width, self.config.codec),
                "video.is_depth_map": False,
                "video.fps": self.store.rate_hz,
                "video.channels": channels,
                "has_audio": False,
            }
        return feature

    def _write_json(self, name: str, content: Any) -> None:
        (self.root / name).write_text(json.dumps(content, indent=4, ensure_ascii=False), "utf-8")
