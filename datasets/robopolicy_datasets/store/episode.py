"""Episodes as they enter and leave a store, and the checks on those that enter."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy_datasets.clock import NANOSECONDS
from robopolicy_datasets.errors import StoreError, nearest_names
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store.codecs import EncodedRows
from robopolicy_datasets.store.events import Event
from robopolicy_datasets.store.layout import TIME_KEY, data_folder, stream_folders
from robopolicy_datasets.store.streams import StoredStream, Stream, check_streams
from robopolicy_datasets.store.texts import parse_object, typed_entries

_INFO_TYPES: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("task", "operator", "embodiment"), (str,)),
    "success": (bool, type(None)),
    "wall_time_ns": (int,),
}


@dataclass(frozen=True)
class EpisodeInfo:
    """What is known of an episode as a whole.

    Attributes:
        task: what was to be done, as a sentence.
        success: whether it was done; ``None`` where nobody said.
        operator: who or what moved the robot.
        embodiment: the robot's name.
        wall_time_ns: wall-clock time of monotonic zero [ns since 1970]: ``wall = time_ns + wall_time_ns``;
            0 where it is not known.
    """

    task: str = ""
    success: bool | None = None
    operator: str = ""
    embodiment: str = ""
    wall_time_ns: int = 0

    def to_text(self) -> str:
        """Returns the JSON text that the store keeps.

        Raises:
            StoreError: an entry is of the wrong type.
        """
        try:
            return json.dumps(typed_entries(type(self), asdict(self), _INFO_TYPES))
        except ValueError as error:
            raise StoreError(f"{error}, which is of the wrong type.") from error

    @classmethod
    def from_text(cls, text: str) -> EpisodeInfo:
        """Reads what ``to_text`` wrote; unknown entries are ignored.

        Raises:
            ValueError: the text is not a JSON object.
        """
        return cls.from_json(parse_object(text))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> EpisodeInfo:
        """Reads plain data; unknown entries are ignored.

        Raises:
            ValueError: an entry is of the wrong type.
        """
        return cls(**typed_entries(cls, content, _INFO_TYPES))


@dataclass(frozen=True)
class Episode:
    """One stored episode.

    Attributes:
        index: its number in the store.
        info: task, success, operator, ...
        length: its steps T.
        time_ns: int64 ``[T]``, the monotonic time of each step [ns]; ``None`` where the store has none.
        data: ``[T, *shape]`` by key, read-only.
        streams: the samples of the sensors with a rate of their own, by key.
        events: what happened in it.
    """

    index: int
    info: EpisodeInfo
    length: int
    time_ns: NDArray[np.int64] | None
    data: Mapping[str, NDArray[Any]]
    streams: Mapping[str, StoredStream]
    events: tuple[Event, ...]


@dataclass(frozen=True)
class NewEpisode:
    """An episode to append.

    Attributes:
        data: ``[T, *shape]`` for every key of the store's Spec; images may be encoded already.
        info: task, success, operator, ...
        time_ns: int64 ``[T]``, strictly increasing [ns]; ``None`` for multiples of the store's period.
        streams: for every stream of the store.
        events: what happened in it.
    """

    data: Mapping[str, ArrayLike | EncodedRows]
    info: EpisodeInfo = field(default_factory=EpisodeInfo)
    time_ns: ArrayLike | None = None
    streams: Mapping[str, Stream] = field(default_factory=dict)
    events: Sequence[Event] = ()


@dataclass(frozen=True)
class EpisodeRecord:
    """What a store notes of a new episode besides its rows.

    Attributes:
        rows: how many it has in each array of the store, by folder.
        info: task, success, operator, ...
        events: what happened in it.
    """

    rows: Mapping[str, int]
    info: EpisodeInfo
    events: tuple[Event, ...]


@dataclass(frozen=True)
class CheckedEpisode:
    """A new episode that fits the store: arrays of the Spec's dtypes, of one length."""

    data: Mapping[str, NDArray[Any] | EncodedRows]
    info: EpisodeInfo
    time_ns: NDArray[np.int64]
    streams: Mapping[str, StoredStream]
    events: tuple[Event, ...]

    def rows(self) -> dict[str, NDArray[Any] | EncodedRows]:
        """Returns its rows in each array of the store, by folder."""
        rows = {data_folder(key): values for key, values in {**self.data, TIME_KEY: self.time_ns}.items()}
        for key, stream in self.streams.items():
            rows |= zip(stream_folders(key), (stream.value, stream.time_ns), strict=True)
        return rows

    def record(self) -> EpisodeRecord:
        """Returns what is noted of it besides its rows."""
        return EpisodeRecord({key: len(rows) for key, rows in self.rows().items()}, self.info, self.events)


def check_episode(
    episode: NewEpisode, spec: Spec, rate_hz: float, streams: Sequence[Feature]
) -> CheckedEpisode:
    """Checks that ``episode`` fits a store with ``spec`` and ``streams``.

    Raises:
        StoreError: names the key, what was expected and what was found.
    """
    data = episode.data
    wanted = spec.keys()
    missing = [key for key in wanted if key not in data]
    if missing:
        raise StoreError(f"The episode lacks {', '.join(missing)}. The store needs: {', '.join(wanted)}.")
    for key in data:
        if key not in wanted:
            options = ", ".join(nearest_names(key, wanted))
            raise StoreError(f"The episode has '{key}', which the store does not hold. Allowed: {options}.")
    arrays = {feature.key: _check_rows(feature, data[feature.key]) for feature in spec.features}
    lengths = {key: len(array) for key, array in arrays.items()}
    length = lengths[wanted[0]]
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{key} {count}" for key, count in lengths.items())
        raise StoreError(f"Every key of an episode needs the same number of steps; found: {listed}.")
    if length == 0:
        raise StoreError("The episode has no steps; append at least one.")
    for event in episode.events:
        event.to_text()  # raises where it cannot be kept
    return CheckedEpisode(
        arrays,
        episode.info,
        _check_time(episode.time_ns, length, rate_hz),
        check_streams(episode.streams, streams),
        tuple(episode.events),
    )


def _check_rows(feature: Feature, rows: ArrayLike | EncodedRows) -> NDArray[Any] | EncodedRows:
    if not isinstance(rows, EncodedRows):
        return check_array(feature, np.asarray(rows))
    found, wanted = (rows.row_shape, rows.data_type), (feature.shape, np.dtype(feature.dtype).name)
    if found != wanted or not feature.is_image:
        raise StoreError(
            f"'{feature.key}' is given as encoded {found[1]}{list(found[0])} images; "
            f"a {feature.kind} {wanted[1]}{list(wanted[0])} is expected."
        )
    return rows


def check_array(feature: Feature, array: NDArray[Any]) -> NDArray[Any]:
    """Checks that ``array [T, *shape]`` is what ``feature`` says; returns it in the feature's dtype.

    Raises:
        StoreError: names the key, what was expected and what was found.
    """
    if array.ndim == 0 or array.shape[1:] != feature.shape:
        expected = ", ".join(["T", *map(str, feature.shape)])
        raise StoreError(f"'{feature.key}' has the shape {list(array.shape)} but [{expected}] is expected.")
    wanted = np.dtype(feature.dtype)
    both_floating = array.dtype.kind == "f" and wanted.kind == "f"
    if not both_floating and not np.can_cast(array.dtype, wanted, "safe"):
        raise StoreError(f"'{feature.key}' is {array.dtype} but {wanted} is expected. Convert it first.")
    with np.errstate(over="ignore"):  # what overflows becomes infinite and is refused below
        array = array.astype(wanted, copy=False)
    step = first_not_finite(array)
    if step is not None:
        raise StoreError(f"'{feature.key}' is not finite (NaN or infinite) at step {step} of the episode.")
    return array


def _check_time(time_ns: ArrayLike | None, length: int, rate_hz: float) -> NDArray[np.int64]:
    if time_ns is None:
        return np.round(np.arange(length) * (NANOSECONDS / rate_hz)).astype(np.int64)
    time = np.asarray(time_ns)
    if time.shape != (length,) or time.dtype != np.int64:
        raise StoreError(f"time_ns is {time.dtype}{list(time.shape)} but int64[{length}] is expected.")
    backward = np.flatnonzero(time[1:] <= time[:-1])
    if len(backward):
        raise StoreError(f"time_ns must increase; it does not at step {backward[0] + 1} of the episode.")
    return time


def first_not_finite(array: NDArray[Any]) -> int | None:
    """Returns the first row of ``array`` that holds a NaN or infinite value, or ``None``."""
    if array.dtype.kind != "f":
        return None
    finite = np.isfinite(array)
    if finite.all():
        return None
    return int(np.argmin(finite.reshape(len(array), -1).all(axis=1)))
