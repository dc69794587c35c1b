"""DemoStore: episodes of observations and actions, appended atomically, read fast."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy_datasets.errors import StoreError, nearest_names
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store.blocks import BlockArray
from robopolicy_datasets.store.codecs import EncodedRows
from robopolicy_datasets.store.creation import create_files
from robopolicy_datasets.store.episode import Episode, EpisodeInfo, NewEpisode, check_episode
from robopolicy_datasets.store.events import Event
from robopolicy_datasets.store.foreign import ForeignArray, ForeignFiles
from robopolicy_datasets.store.layout import TIME_KEY
from robopolicy_datasets.store.live import LiveEpisode
from robopolicy_datasets.store.native import NativeFiles
from robopolicy_datasets.store.opening import open_files
from robopolicy_datasets.store.streams import StoredStream, Stream, StreamFiles


class DemoStore:
    """Episodes in one zarr folder.

    Made by ``DemoStore.create`` and ``DemoStore.open``. A store that is open shows the episodes that were
    committed when it was opened or last refreshed, and those that it appends itself.
    """

    def __init__(self, files: NativeFiles | ForeignFiles, mode: Literal["r", "a"]) -> None:
        self._files = files
        self._mode = mode
        self._cache: dict[str, NDArray[Any]] = {}
        self._events: list[Event] | None = None  # read when they are asked for
        self._ends = files.ends
        self._infos = files.read_infos(0, len(self._ends))

    @classmethod
    def create(
        cls,
        path: str | Path,
        spec: Spec,
        *,
        rate_hz: float,
        metadata: Mapping[str, Any] | None = None,
        codecs: Mapping[str, str] | None = None,
        streams: Sequence[Feature] = (),
    ) -> DemoStore:
        """Creates an empty store and opens it for appending.

        Args:
            path: a folder that does not exist yet.
            spec: the features of every step.
            rate_hz: steps per second.
            metadata: plain JSON data to keep with the store.
            codecs: by key, or by kind for all other features of it (``rgb``: all cameras), how chunks are
                encoded: ``raw``, ``lz4``, ``zstd`` or, for rgb images and not lossless, ``jpeg``, with a
                level where wanted (``jpeg:90``); ``auto`` lets the first episodes decide between zstd
                (drawn images) and jpeg (filmed ones). Else zstd.
            streams: sensors with a rate of their own, stored sample by sample beside the steps; one that
                the steps show too has the same key there.

        Raises:
            StoreError: the path exists or cannot be written, or the Spec cannot be stored.
            ConfigError: there is no such codec.
        """
        path = Path(path)
        if path.exists() or path.is_symlink():
            raise StoreError(f"{path} exists already. Choose another path, remove it, or open it to append.")
        if not rate_hz > 0 or not np.isfinite(rate_hz):
            raise StoreError(f"The rate of a store is {rate_hz}; it must be a positive number of Hz.")
        if not spec.features:
            raise StoreError("The Spec of a store needs at least one feature.")
        create_files(path, spec, float(rate_hz), metadata or {}, codecs or {}, streams)
        return cls.open(path, "a")

    @classmethod
    def open(cls, path: str | Path, mode: Literal["r", "a"] = "r") -> DemoStore:
        """Opens a store; also a zarr folder of diffusion_policy, or a zip of one such as UMI's
        ``dataset.zarr.zip``: read in place, read only, its Spec inferred.

        Args:
            path: the store's folder or zip.
            mode: ``"r"`` to read, ``"a"`` to read and append.

        Raises:
            StoreError: there is no store, or it is damaged, or a pickle.
            MissingExtraError: its images need a decoder that is not installed.
        """
        return cls(open_files(Path(path), mode), mode)

    @property
    def path(self) -> Path:
        """The store's folder."""
        return self._files.path

    @property
    def spec(self) -> Spec:
        """The features of every step."""
        return self._files.spec

    @property
    def streams(self) -> tuple[Feature, ...]:
        """The sensors with a rate of their own."""
        return tuple(stream.feature for stream in self._files.streams.values())

    @property
    def codecs(self) -> Mapping[str, str]:
        """How each array of ours is encoded, by key; empty for foreign stores."""
        arrays = {**self._files.arrays, **{key: files.value for key, files in self._files.streams.items()}}
        return {key: array.codec for key, array in arrays.items() if isinstance(array, BlockArray)}

    @property
    def rate_hz(self) -> float:
        """Steps per second; 0 where a foreign store does not say."""
        return self._files.rate_hz

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The metadata given at creation."""
        return MappingProxyType(self._files.metadata)

    @property
    def episode_ends(self) -> NDArray[np.int64]:
        """The row after each episode's last, int64 ``[E]``, read-only."""
        view = self._ends.view()
        view.flags.writeable = False
        return view

    @property
    def num_steps(self) -> int:
        """Steps of all episodes."""
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def has_time(self) -> bool:
        """Whether each step has a time (``"time_ns"``); foreign stores have none."""
        return self._files.time is not None

    @property
    def unfinished_steps(self) -> int:
        """Steps on disk after the last episode: what a killed writer left. They are never read."""
        time = [] if self._files.time is None else [self._files.time]
        return max(array.rows for array in (*self._files.arrays.values(), *time)) - self.num_steps

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[Episode]:
        return (self.episode(index) for index in range(len(self)))

    def __repr__(self) -> str:
        return f"DemoStore({str(self.path)!r}, {len(self)} episodes, {self.num_steps} steps)"

    def keys(self) -> list[str]:
        """Returns the keys of all features."""
        return self.spec.keys()

    def append_episode(
        self,
        data: Mapping[str, ArrayLike | EncodedRows],
        info: EpisodeInfo | None = None,
        *,
        time_ns: ArrayLike | None = None,
        streams: Mapping[str, Stream] | None = None,
        events: Sequence[Event] = (),
    ) -> int:
        """Appends one episode, which is on disk for good when this returns.

        Args:
            data: ``[T, *shape]`` for every key of the Spec; float64 is stored as the Spec's float type.
                Images may be encoded already.
            info: task, success, operator, ...
            time_ns: int64 ``[T]``, strictly increasing [ns]; by default multiples of the store's period.
            streams: for every stream of the store.
            events: what happened in it.

        Returns:
            The episode's index.

        Raises:
            StoreError: the data does not fit or cannot be written; the store is as it was.
        """
        episode = NewEpisode(data, info or EpisodeInfo(), time_ns, streams or {}, events)
        return self.append_episodes([episode])[0]

    def append_episodes(self, episodes: Sequence[NewEpisode]) -> range:
        """Appends several episodes in one commit: all or none, and much cheaper than one by one.

        Returns:
            The episodes' indices.

        Raises:
            StoreError: as for ``append_episode``.
        """
        files = self._writable()
        if not episodes:
            raise StoreError("No episodes were given to append.")
        checked = []
        for index, episode in enumerate(episodes, start=len(self)):
            try:
                checked.append(check_episode(episode, self.spec, self.rate_hz, self.streams))
            except StoreError as error:
                raise StoreError(f"Episode {index}: {error}") from error
        self._took(files.publish(checked))
        return range(len(self) - len(checked), len(self))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps all other writers out until the end of the ``with`` block: needed for ``live_episode``.

        Raises:
            StoreError: another one is writing, or the store cannot be written.
        """
        with self._writable().held():
            self.refresh()
            yield

    def live_episode(self, *, threads: int, memory: int) -> LiveEpisode:
        """Begins an episode that is written while it happens; the store must be ``held`` until its end.

        Args:
            threads: that encode and write.
            memory: bytes that may wait for them.
        """
        return LiveEpisode(self._writable(), threads=threads, memory=memory, committed=self._took)

    def refresh(self) -> range:
        """Looks for episodes that others have committed since.

        Returns:
            The indices of those that are new.

        Raises:
            StoreError: the store is damaged, or is not the one that it was.
        """
        known, files = len(self), open_files(self.path, self._mode)
        if files.spec != self.spec or not np.array_equal(files.ends[:known], self._ends):
            raise StoreError(f"{self.path} is another store than the one that was opened. Open it again.")
        if len(files.ends) > known:
            self._files = files
            self._took(files.ends)
        return range(known, len(self))

    def episode(self, index: int) -> Episode:
        """Reads one episode.

        Raises:
            StoreError: there is no such episode, or its bytes are damaged.
        """
        start, stop = self._rows_of(index)
        data = {key: self._rows(key, start, stop) for key in self.keys()}
        time_ns = None if self._files.time is None else self._rows(TIME_KEY, start, stop)
        streams = {feature.key: self.stream(feature.key, index) for feature in self.streams}
        return Episode(
            index,
            self._infos[index],
            stop - start,
            time_ns,
            MappingProxyType(data),
            MappingProxyType(streams),
            tuple(self.events(index)),
        )

    def stream(self, key: str, index: int) -> StoredStream:
        """Reads the samples of a stream in one episode.

        Raises:
            StoreError: there is no such stream or episode, or its bytes are damaged.
        """
        self._rows_of(index)
        return self._stream_files(key).read(index)

    def num_samples(self, key: str) -> int:
        """Returns how many samples a stream has in all episodes.

        Raises:
            StoreError: there is no such stream.
        """
        ends = self._stream_files(key).ends
        return int(ends[-1]) if len(ends) else 0

    def events(self, index: int | None = None) -> list[Event]:
        """Returns the events of one or of all episodes, in the order in which they were added.

        Raises:
            StoreError: they are damaged.
        """
        if self._events is None:
            self._events = self._files.read_events(len(self))
        return [event for event in self._events if index is None or event.episode == index]

    def add_events(self, events: Sequence[Event]) -> None:
        """Adds events to committed episodes; they are on disk for good when this returns.

        Args:
            events: each with the index of its episode.

        Raises:
            StoreError: an event does not fit or cannot be written; the store is as it was.
        """
        files = self._writable()
        for event in events:
            self._rows_of(event.episode)
            event.to_text()
        if events:
            files.add_events(events)
            self._events = None

    def episode_info(self, index: int) -> EpisodeInfo:
        """Returns an episode's info.

        Raises:
            StoreError: there is no such episode.
        """
        self._rows_of(index)
        return self._infos[index]

    def encoded(self, key: str, rows: NDArray[np.integer]) -> EncodedRows:
        """Reads rows ``[N]`` of an image of ours as they are on disk, with a check of their checksums.

        Raises:
            StoreError: no such key, it is not stored image by image, or a row is missing or damaged.
        """
        source = self._source(key)
        if not isinstance(source, BlockArray) or not source.layout.sharded:
            raise StoreError(f"'{key}' of {self.path} is not stored image by image; read its rows instead.")
        return source.encoded(rows)

    def take(self, key: str, rows: NDArray[np.integer]) -> NDArray[Any]:
        """Reads single rows of ``key`` from disk, without keeping them.

        Args:
            key: of a feature; quick for images, whose frames are read straight from the shards' bytes.
            rows: ``[N]``, each from 0 to ``num_steps - 1``.

        Returns:
            ``[N, *shape]``.

        Raises:
            StoreError: no such key or row, or its bytes are damaged.
        """
        feature, source = self.spec[key], self._source(key)
        wanted = rows.tolist()
        if wanted and not 0 <= min(wanted) <= max(wanted) < self.num_steps:
            raise StoreError(
                f"Rows {min(wanted)} to {max(wanted)} of '{key}' were asked for; {self.path} has "
                f"{self.num_steps}, from 0 on."
            )
        return source.take(wanted, np.empty((len(wanted), *feature.shape), dtype=feature.dtype))

    def array(self, key: str) -> NDArray[Any]:
        """Returns all rows of ``key`` (or ``"time_ns"``) as ``[num_steps, *shape]``.

        Read once and kept in memory, read-only.

        Raises:
            StoreError: no such key, or its bytes are damaged.
        """
        if key not in self._cache:
            self._cache[key] = self._rows(key, 0, self.num_steps)
        return self._cache[key]

    def rows(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """Reads rows ``start`` to ``stop`` (exclusive) of ``key`` (or ``"time_ns"``), kept by nobody.

        Returns:
            ``[stop - start, *shape]``, read-only.

        Raises:
            StoreError: no such key or rows, or their bytes are damaged.
        """
        if not 0 <= start <= stop <= self.num_steps:
            raise StoreError(
                f"{self.path} has no rows {start} to {stop}; it has {self.num_steps}, from 0 on."
            )
        return self._rows(key, start, stop)

    def fingerprint(self) -> str:
        """Returns a hash of the Spec, the episode boundaries and every array that is not an image."""
        digest = hashlib.sha256(json.dumps(self.spec.to_json(), sort_keys=True).encode())
        digest.update(self._ends.astype("<i8").tobytes())
        for feature in sorted(self.spec.features, key=lambda feature: feature.key):
            if not feature.is_image:
                digest.update(feature.key.encode())
                digest.update(np.ascontiguousarray(self.array(feature.key)).tobytes())
        return digest.hexdigest()

    def _took(self, ends: NDArray[np.int64]) -> None:
        """Shows the episodes that end at ``ends`` from now on."""
        self._ends = ends
        self._infos += self._files.read_infos(len(self._infos), len(ends))
        self._cache.clear()
        self._events = None

    def _writable(self) -> NativeFiles:
        if self._mode != "a" or not isinstance(self._files, NativeFiles):
            raise StoreError(f"{self.path} is open for reading only. Open it with mode='a' to append.")
        return self._files

    def _rows(self, key: str, start: int, stop: int) -> NDArray[Any]:
        if key in self._cache:
            return self._cache[key][start:stop]
        values = self._source(key).read(start, stop)
        values.flags.writeable = False
        return values

    def _source(self, key: str) -> BlockArray | ForeignArray:
        if key == TIME_KEY and self._files.time is not None:
            return self._files.time
        if key not in self._files.arrays:
            options = ", ".join(nearest_names(key, self.keys()))
            raise StoreError(f"The store {self.path} has no key '{key}'. It has: {options}.")
        return self._files.arrays[key]

    def _stream_files(self, key: str) -> StreamFiles:
        if key not in self._files.streams:
            options = ", ".join(nearest_names(key, self._files.streams)) or "none"
            raise StoreError(f"The store {self.path} has no stream '{key}'. It has: {options}.")
        return self._files.streams[key]

    def _rows_of(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise StoreError(f"There is no episode {index} in {self.path}; it has {len(self)}, from 0 on.")
        return (int(self._ends[index - 1]) if index else 0), int(self._ends[index])
