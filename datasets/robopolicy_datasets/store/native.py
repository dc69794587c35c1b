"""The files of our own stores: create, open, publish."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import RobopolicyError, StoreError
from robopolicy_datasets.spec import Spec, features_from_json
from robopolicy_datasets.store.blocks import BlockArray
from robopolicy_datasets.store.codecs import ChunkCodec, EncodedRows, choose_codec
from robopolicy_datasets.store.episode import CheckedEpisode, EpisodeInfo, EpisodeRecord
from robopolicy_datasets.store.events import Event, EventFiles, of_episode
from robopolicy_datasets.store.layout import (
    ENDS_LAYOUT,
    INFO_LAYOUT,
    READABLE_SCHEMAS,
    SCHEMA_KEY,
    STREAMS,
    TIME_KEY,
    TIME_LAYOUT,
    UNDECIDED,
    ArrayLayout,
    checked_key,
    data_folder,
    read_json,
    stream_folders,
    to_json_bytes,
)
from robopolicy_datasets.store.streams import StreamFiles
from robopolicy_datasets.store.transaction import commit, locked, write_error

_log = logging.getLogger(__name__)
_WRITER_LOCK = ".writer"  # exclusive while a recorder is at work, shared by appends
_HOLD_WAIT_S = 2.0  # a recorder waits for an append that is under way


class NativeFiles:
    """A store that this package wrote.

    Args:
        path: the store's folder.

    Attributes:
        spec, rate_hz, metadata: what its attributes say.
        ends: the committed ``episode_ends`` ``[E]`` when it was opened.
        arrays: the array of each key of the Spec.
        time: the array of each step's time [ns].

    Raises:
        StoreError: it is damaged, incomplete, or of a newer schema.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        attributes = read_json(path / "zarr.json").get("attributes", {})
        version = attributes.get(SCHEMA_KEY)
        if version not in READABLE_SCHEMAS:
            readable = " and ".join(map(str, READABLE_SCHEMAS))
            raise StoreError(
                f"{path} has the store schema {version!r}; this version reads {readable}. Update robopolicy."
            )
        try:
            self.spec = Spec.from_json(attributes["spec"])
            self.rate_hz = float(attributes["rate_hz"])
            if not 0 < self.rate_hz < math.inf:
                raise ValueError(f"the rate is {self.rate_hz} Hz")
            self.metadata: dict[str, Any] = dict(attributes["metadata"])
            undecided = list(attributes.get(UNDECIDED, []))
            features = features_from_json(attributes.get(STREAMS, []))
            keys = [checked_key(feature.key) for feature in self.spec.features]
            stream_keys = [checked_key(feature.key) for feature in features]
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RobopolicyError) as error:
            raise StoreError(f"The attributes in {path / 'zarr.json'} are damaged: {error}.") from error
        missing = [key for key in keys if not (path / "data" / key / "zarr.json").is_file()]
        if missing:
            raise StoreError(
                f"The store {path} lacks {', '.join('data/' + key for key in missing)}, "
                "which its Spec names. Restore it from a copy."
            )
        self._ends_folder = path / "meta" / "episode_ends"
        self.ends = self._read_ends()  # before the arrays, which a writer extends first
        self.arrays = {key: BlockArray.open(path / "data" / key) for key in keys}
        self.time = BlockArray.open(path / "data" / TIME_KEY, TIME_LAYOUT)
        self._infos = BlockArray.open(path / "meta" / "episodes", INFO_LAYOUT)
        self._undecided = [key for key in keys if key in undecided and not self.arrays[key].rows]
        self.streams = {
            key: StreamFiles(path / "streams" / key, feature, len(self.ends))
            for key, feature in zip(stream_keys, features, strict=True)
        }
        self._events = EventFiles(path / "meta" / "events")

    def read_infos(self, start: int, stop: int) -> list[EpisodeInfo]:
        """Reads the infos of episodes ``start`` to ``stop`` (exclusive)."""
        try:
            return [EpisodeInfo.from_text(text) for text in self._infos.read_texts(start, stop)]
        except (ValueError, TypeError) as error:
            raise StoreError(
                f"{self._infos.folder} is damaged ({error}). Restore the store from a copy."
            ) from error

    def read_events(self, episodes: int) -> list[Event]:
        """Reads the events of the first ``episodes`` episodes."""
        return self._events.read(episodes)

    def check_files(self, rows: int) -> None:
        """Checks that the files of all ``rows`` committed rows are there.

        Raises:
            StoreError: names the missing files.
        """
        counted = [(array, rows) for array in (*self.arrays.values(), self.time)]
        for stream in self.streams.values():
            samples = int(stream.ends[-1]) if len(stream.ends) else 0
            counted += [(array, samples) for array in stream.arrays]
        for array, needed in counted:
            array.check_blocks(needed)
        extra = max(array.rows for array in (*self.arrays.values(), self.time)) - rows
        if extra > 0:
            _log.warning(
                "%s: %d steps after the last episode belong to an unfinished one; they are ignored.",
                self.path,
                extra,
            )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps every other writer out, of this process too, until the end of the ``with`` block.

        Raises:
            StoreError: another one is writing, or the store cannot be written.
        """
        lock = self._ends_folder / _WRITER_LOCK
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(lock, wait_s=_HOLD_WAIT_S))
                lock.write_text(f"process {os.getpid()}")
                shutil.rmtree(self.spool_folder, ignore_errors=True)  # a killed recorder's
            except BlockingIOError as error:
                raise self._in_use() from error
            except OSError as error:
                raise write_error(self.path, error) from error
            yield

    @property
    def spool_folder(self) -> Path:
        """Where an episode that is being recorded lies until its commit; on the store's file system."""
        return self._ends_folder / ".recording"

    def row_arrays(self) -> dict[str, BlockArray]:
        """Returns the arrays that hold the rows of episodes, by folder."""
        arrays = {data_folder(key): array for key, array in self.arrays.items()}
        arrays[data_folder(TIME_KEY)] = self.time
        for key, stream in self.streams.items():
            arrays |= dict(zip(stream_folders(key), stream.arrays, strict=True))
        return arrays

    def committed_rows(self) -> dict[str, int]:
        """Returns the rows of each of the ``row_arrays`` that belong to the episodes on disk."""
        return self._committed_rows(self._read_ends())

    def publish(self, episodes: Sequence[CheckedEpisode]) -> NDArray[np.int64]:
        """Appends episodes in one commit; readers see all of them or none.

        Returns:
            The ``episode_ends`` from then on.

        Raises:
            StoreError: they could not be written, or the store is being recorded into; it is as it was.
        """
        with self._writing(), self._shared():
            ends = self._read_ends()  # another process may have appended
            self._settle_codecs(episodes, ends)
            committed, files = self._committed_rows(ends), dict[Path, bytes | Path]()
            for folder, array in self.row_arrays().items():
                rows = _joined([episode.rows()[folder] for episode in episodes])
                files.update(array.extended(committed[folder], rows))
            return self._commit(ends, [episode.record() for episode in episodes], files)

    def publish_spooled(
        self, record: EpisodeRecord, files: Mapping[Path, bytes | Path], arrays: Mapping[str, BlockArray]
    ) -> NDArray[np.int64]:
        """Appends the episode whose rows were written while the store was ``held``.

        Args:
            record: of the episode.
            files: the content of the blocks with its rows, or a durable file that has it.
            arrays: the array of each key, with the codec that was used.

        Returns:
            The ``episode_ends`` from then on.

        Raises:
            StoreError: it could not be committed; the store is as it was, and this may be tried again.
        """
        with self._writing():
            self.arrays, self._undecided = dict(arrays), []
            return self._commit(self._read_ends(), [record], files)

    def add_events(self, events: Sequence[Event]) -> None:
        """Adds events to committed episodes.

        Raises:
            StoreError: they could not be written; the store is as it was.
        """
        with self._writing():
            files = self._events.changed_files(len(self._read_ends()), events)
            last = self._events.folder / "zarr.json"
            commit(self._ends_folder / ".staging", files, (last, files.pop(last)))

    def array_for(self, key: str, images: Sequence[NDArray[Any] | EncodedRows]) -> BlockArray:
        """Returns the array of ``key``, its codec chosen by its first images where that is left to them."""
        array = self.arrays[key]
        if key not in self._undecided:
            return array
        return BlockArray(array.folder, ArrayLayout.of_feature(self.spec[key], _codec_by_content(images)))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Holds the lock of commits; names the store where the disk refuses."""
        try:
            with locked(self._ends_folder / ".lock"):
                yield
        except OSError as error:
            raise write_error(self.path, error) from error

    @contextmanager
    def _shared(self) -> Iterator[None]:
        """Sees that nobody is recording meanwhile."""
        try:
            with locked(self._ends_folder / _WRITER_LOCK, shared=True, wait_s=0.0):
                yield
        except BlockingIOError as error:
            raise self._in_use() from error

    def _in_use(self) -> StoreError:
        try:
            holder = (self._ends_folder / _WRITER_LOCK).read_text() or "another process"
        except OSError:
            holder = "another process"
        return StoreError(
            f"{self.path} is being recorded into by {holder}; nothing was written. Wait until it is done, or "
            "write into a store of its own and join them with `robopolicy data merge`."
        )

    def _committed_rows(self, ends: NDArray[np.int64]) -> dict[str, int]:
        steps = int(ends[-1]) if len(ends) else 0
        counts = {data_folder(key): steps for key in (*self.arrays, TIME_KEY)}
        for key, stream in self.streams.items():
            samples = int(stream.ends_array.read(len(ends) - 1, len(ends))[0]) if len(ends) else 0
            counts |= dict.fromkeys(stream_folders(key), samples)
        return counts

    def _settle_codecs(self, episodes: Sequence[CheckedEpisode], ends: NDArray[np.int64]) -> None:
        """Chooses the codecs that are left to the first episodes, or takes over what another writer chose."""
        for key in self._undecided:
            if len(ends):
                self.arrays[key] = BlockArray.open(self.arrays[key].folder)
            else:
                self.arrays[key] = self.array_for(key, [episode.data[key] for episode in episodes])
        self._undecided = []

    def _read_ends(self) -> NDArray[np.int64]:
        array = BlockArray.open(self._ends_folder, ENDS_LAYOUT)
        array.check_blocks(array.rows)
        return array.read(0, array.rows)

    def _commit(
        self, ends: NDArray[np.int64], records: Sequence[EpisodeRecord], rows: Mapping[Path, bytes | Path]
    ) -> NDArray[np.int64]:
        """Replaces the files with the rows of new episodes, and then those that say that they are there.

        Returns:
            The ``episode_ends`` from then on.
        """
        first, files = len(ends), dict(rows)
        committed = self._committed_rows(ends)
        lengths = np.array([record.rows[data_folder(TIME_KEY)] for record in records], np.int64)
        new_ends = np.concatenate([ends, (ends[-1] if first else 0) + np.cumsum(lengths)])
        for folder, array in self.row_arrays().items():
            committed[folder] += sum(record.rows[folder] for record in records)
            files[array.folder / "zarr.json"] = to_json_bytes(array.layout.metadata(committed[folder]))
        files.update(self._infos.extended_texts(first, [record.info.to_text() for record in records]))
        files[self._infos.folder / "zarr.json"] = to_json_bytes(INFO_LAYOUT.metadata(len(new_ends)))
        files.update(BlockArray(self._ends_folder, ENDS_LAYOUT, first).extended(first, new_ends[first:]))
        for key, stream in self.streams.items():
            folder, _ = stream_folders(key)
            files.update(stream.ends_files(first, [record.rows[folder] for record in records]))
        events = [
            event
            for index, record in enumerate(records, start=first)
            for event in of_episode(record.events, index)
        ]
        files.update(self._events.changed_files(first, events))
        last = self._ends_folder / "zarr.json", to_json_bytes(ENDS_LAYOUT.metadata(len(new_ends)))
        commit(self._ends_folder / ".staging", files, last)
        for folder, array in self.row_arrays().items():
            array.rows = committed[folder]
        for stream in self.streams.values():
            stream.ends = stream.ends_array.read(0, len(new_ends))
        return new_ends


def is_native(path: Path) -> bool:
    """Whether ``path`` is a store that this package wrote (of any schema version)."""
    try:
        content = json.loads((path / "zarr.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    attributes = content.get("attributes") if isinstance(content, dict) else None
    return isinstance(attributes, dict) and SCHEMA_KEY in attributes


def _joined(parts: Sequence[NDArray[Any] | EncodedRows]) -> NDArray[Any] | EncodedRows:
    """Joins the rows of several episodes; encoded ones stay so where all are, by one codec."""
    first = parts[0]
    encoded = [part for part in parts if isinstance(part, EncodedRows)]
    if isinstance(first, EncodedRows) and len(encoded) == len(parts) and len({p.codec for p in encoded}) == 1:
        return replace(first, chunks=[chunk for part in encoded for chunk in part.chunks])
    return np.concatenate([part.decoded() if isinstance(part, EncodedRows) else part for part in parts])


def _codec_by_content(parts: Sequence[NDArray[Any] | EncodedRows]) -> ChunkCodec:
    """Chooses the codec of a store's first episodes; images that are encoded already keep theirs."""
    if isinstance(parts[0], EncodedRows):
        return parts[0].codec
    frames = np.concatenate([part[::20] for part in parts if not isinstance(part, EncodedRows)])
    return choose_codec(frames[:: max(1, len(frames) // 8)])
