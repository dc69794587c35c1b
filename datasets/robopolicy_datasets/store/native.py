"""The files of our own stores: create, open, publish."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError, SpecError, StoreError, nearest_names
from robopolicy_datasets.spec import Feature, Spec, features_from_json
from robopolicy_datasets.store.blocks import BlockArray
from robopolicy_datasets.store.codecs import AUTO, ChunkCodec, EncodedRows, choose_codec, parse_codec
from robopolicy_datasets.store.episode import CheckedEpisode, EpisodeInfo
from robopolicy_datasets.store.events import Event, EventFiles, of_episode
from robopolicy_datasets.store.layout import (
    ENDS_LAYOUT,
    INFO_LAYOUT,
    LOSSLESS,
    READABLE_SCHEMAS,
    SCHEMA_KEY,
    SCHEMA_VERSION,
    TIME_KEY,
    TIME_LAYOUT,
    ArrayLayout,
    group_metadata,
    read_json,
    to_json_bytes,
)
from robopolicy_datasets.store.streams import StreamFiles
from robopolicy_datasets.store.transaction import commit, exclusive, sync_folder, write_durably, write_error

_log = logging.getLogger(__name__)
_STREAMS = "streams"  # attribute: the features of the streams
_UNDECIDED = "codec_by_content"  # attribute: the keys whose codec the first episodes decide


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
            self.metadata: dict[str, Any] = dict(attributes["metadata"])
            undecided = list(attributes.get(_UNDECIDED, []))
            features = features_from_json(attributes.get(_STREAMS, []))
        except (KeyError, TypeError, ValueError, SpecError) as error:
            raise StoreError(f"The attributes in {path / 'zarr.json'} are damaged: {error}.") from error
        keys = [_checked_key(feature.key) for feature in self.spec.features]
        missing = [key for key in keys if not (path / "data" / key / "zarr.json").is_file()]
        if missing:
            raise StoreError(
                f"The store {path} lacks {', '.join('data/' + key for key in missing)}, "
                "which its Spec names. Restore it from a copy."
            )
        self._ends_folder = path / "meta" / "episode_ends"
        self.ends = self._read_ends()  # before the arrays, which a writer extends first
        self.arrays = {key: BlockArray.open(path / "data" / key) for key in keys}
        self.time = BlockArray.open(path / "data" / TIME_KEY)
        self._infos = BlockArray.open(path / "meta" / "episodes")
        self._undecided = [key for key in keys if key in undecided and not self.arrays[key].rows]
        self.streams = {
            feature.key: StreamFiles(path / "streams" / _checked_key(feature.key), feature, len(self.ends))
            for feature in features
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
            missing = array.missing_blocks(needed)
            if missing:
                raise StoreError(
                    f"{array.folder} lacks {len(missing)} of its files (first: {missing[0]}). "
                    "Restore the store from a copy."
                )
        extra = max(array.rows for array in (*self.arrays.values(), self.time)) - rows
        if extra > 0:
            _log.warning(
                "%s: %d steps after the last episode belong to an unfinished one; they are ignored.",
                self.path,
                extra,
            )

    def publish(self, episodes: Sequence[CheckedEpisode]) -> NDArray[np.int64]:
        """Appends episodes in one commit; readers see all of them or none.

        Returns:
            The ``episode_ends`` from then on.

        Raises:
            StoreError: they could not be written; the store is as it was.
        """
        try:
            with exclusive(self._ends_folder):
                ends = self._read_ends()  # another process may have appended
                self._settle_codecs(episodes, ends)
                committed = ends[-1] if len(ends) else 0
                lengths = [episode.length for episode in episodes]
                new_ends = np.concatenate([ends, committed + np.cumsum(lengths, dtype=np.int64)])
                files, last = self._changed_files(episodes, ends, new_ends)
                commit(self._ends_folder / ".staging", files, last)
        except OSError as error:
            raise write_error(self.path, error) from error
        for array in (*self.arrays.values(), self.time):
            array.rows = int(new_ends[-1])
        for stream in self.streams.values():
            stream.ends = stream.ends_array.read(0, len(new_ends))
        return new_ends

    def add_events(self, events: Sequence[Event]) -> None:
        """Adds events to committed episodes.

        Raises:
            StoreError: they could not be written; the store is as it was.
        """
        try:
            with exclusive(self._ends_folder):
                files = self._events.changed_files(len(self._read_ends()), events)
                last = self._events.folder / "zarr.json"
                commit(self._ends_folder / ".staging", files, (last, files.pop(last)))
        except OSError as error:
            raise write_error(self.path, error) from error

    def _settle_codecs(self, episodes: Sequence[CheckedEpisode], ends: NDArray[np.int64]) -> None:
        """Chooses the codecs that are left to the first episodes, or takes over what another writer chose."""
        for key in self._undecided:
            folder = self.arrays[key].folder
            if len(ends):
                self.arrays[key] = BlockArray.open(folder)
            else:
                codec = _codec_by_content([episode.data[key] for episode in episodes])
                self.arrays[key] = BlockArray(folder, ArrayLayout.of_feature(self.spec[key], codec))
        self._undecided = []

    def _read_ends(self) -> NDArray[np.int64]:
        array = BlockArray.open(self._ends_folder)
        return array.read(0, array.rows)

    def _changed_files(
        self, episodes: Sequence[CheckedEpisode], ends: NDArray[np.int64], new_ends: NDArray[np.int64]
    ) -> tuple[dict[Path, bytes], tuple[Path, bytes]]:
        """Returns the files of an append, and the one whose rename commits it."""
        committed = int(ends[-1]) if len(ends) else 0
        rows = {key: _joined([episode.data[key] for episode in episodes]) for key in self.arrays}
        rows[TIME_KEY] = np.concatenate([episode.time_ns for episode in episodes])
        files: dict[Path, bytes] = {}
        for key, array in {**self.arrays, TIME_KEY: self.time}.items():
            files.update(array.extended(committed, rows[key]))
            files[array.folder / "zarr.json"] = to_json_bytes(array.layout.metadata(int(new_ends[-1])))
        files.update(self._infos.extended_texts(len(ends), [episode.info.to_text() for episode in episodes]))
        files[self._infos.folder / "zarr.json"] = to_json_bytes(INFO_LAYOUT.metadata(len(new_ends)))
        ends_array = BlockArray(self._ends_folder, ENDS_LAYOUT, len(ends))
        files.update(ends_array.extended(len(ends), new_ends[len(ends) :]))
        for key, stream in self.streams.items():
            ends_of_stream = stream.ends_array.read(0, len(ends))
            files.update(stream.changed_files(ends_of_stream, [episode.streams[key] for episode in episodes]))
        events = [
            event
            for index, episode in enumerate(episodes, start=len(ends))
            for event in of_episode(episode.events, index)
        ]
        files.update(self._events.changed_files(len(ends), events))
        return files, (self._ends_folder / "zarr.json", to_json_bytes(ENDS_LAYOUT.metadata(len(new_ends))))


def is_native(path: Path) -> bool:
    """Whether ``path`` is a store that this package wrote (of any schema version)."""
    try:
        content = json.loads((path / "zarr.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and SCHEMA_KEY in (content.get("attributes") or {})


def create_files(
    path: Path,
    spec: Spec,
    rate_hz: float,
    metadata: Mapping[str, Any],
    codecs: Mapping[str, str],
    streams: Sequence[Feature],
) -> None:
    """Creates an empty store at ``path``, which must not exist; it appears whole or not at all.

    Raises:
        StoreError: the path exists, the Spec cannot be stored, or the disk cannot be written.
        ConfigError: a codec is none of ours, or for a key that the Spec has not.
    """
    keys = [*spec.keys(), *(feature.key for feature in streams)]
    repeated = sorted({key for key in keys if keys.count(key) > 1})
    if repeated:
        raise StoreError(f"A store names each key once; given more than once: {', '.join(repeated)}.")
    strangers = [key for key in codecs if key not in keys]
    if strangers:
        options = ", ".join(nearest_names(strangers[0], keys))
        raise ConfigError(f"A codec is given for '{strangers[0]}', but the store holds: {options}.")
    attributes = {
        SCHEMA_KEY: SCHEMA_VERSION,
        "rate_hz": rate_hz,
        "spec": spec.to_json(),
        "metadata": dict(metadata),
        _UNDECIDED: [f.key for f in spec.features if codecs.get(f.key) == AUTO and f.kind == "rgb"],
        _STREAMS: [asdict(feature) for feature in streams],
    }
    chosen = {
        feature.key: ArrayLayout.of_feature(feature, parse_codec(_given_codec(feature.key, codecs)))
        for feature in (*spec.features, *streams)
    }
    arrays = {f"data/{_checked_key(key)}": chosen[key] for key in keys[: len(spec.features)]}
    for feature in streams:
        arrays |= StreamFiles.layouts(feature, chosen[_checked_key(feature.key)])
    arrays |= {
        f"data/{TIME_KEY}": TIME_LAYOUT,
        "meta/episodes": INFO_LAYOUT,
        "meta/events": INFO_LAYOUT,
        "meta/episode_ends": ENDS_LAYOUT,
    }
    try:
        files = {"": to_json_bytes(group_metadata(attributes))}
    except (TypeError, ValueError) as error:
        raise StoreError(f"The metadata of a store must be plain JSON data: {error}.") from error
    groups = ["data", "meta"]
    if streams:
        groups += ["streams", *(f"streams/{feature.key}" for feature in streams)]
    files |= {group: to_json_bytes(group_metadata({})) for group in groups}
    files |= {name: to_json_bytes(layout.metadata(0)) for name, layout in arrays.items()}
    staging = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staging.mkdir()
        for name, data in files.items():
            (staging / name).mkdir(exist_ok=True)
            write_durably(staging / name / "zarr.json", data)
        for name in files:
            sync_folder(staging / name)
        os.rename(staging, path)
        sync_folder(path.parent)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


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


def _given_codec(key: str, codecs: Mapping[str, str]) -> str:
    given = codecs.get(key, AUTO)
    return LOSSLESS.text if given == AUTO else given


def _checked_key(key: str) -> str:
    """Returns ``key`` where it can be a folder's name and no more."""
    if key == TIME_KEY or not key or key.startswith(".") or not all(c.isalnum() or c in "_-." for c in key):
        raise StoreError(
            f"'{key}' cannot be a key of a store: use letters, digits, '_', '-' and '.'; "
            f"'{TIME_KEY}' is the store's own."
        )
    return key
