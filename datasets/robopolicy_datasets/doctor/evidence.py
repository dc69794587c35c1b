"""What the checks look at: a store's values and the figures of its images, read once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.doctor.frames import FrameFigures
from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.store.events import Event
from robopolicy_datasets.store.layout import TIME_KEY

_LARGE = 2048  # numbers in a sample; tactile marker grids have fewer, images more


@dataclass(frozen=True)
class Span:
    """Marked steps of one episode.

    Attributes:
        episode: its number in the store.
        first: the first marked step.
        last: the last marked step.
        count: marked steps.
        row: the row of ``first`` in the evidence's arrays.
    """

    episode: int
    first: int
    last: int
    count: int
    row: int

    @property
    def steps(self) -> tuple[int, int]:
        """(first, last) marked step."""
        return (self.first, self.last)


@dataclass(frozen=True)
class StreamEvidence:
    """The samples of one stream in one episode.

    Attributes:
        feature: the stream's.
        episode: its number in the store.
        time_ns: int64 ``[n]`` the time of each sample [ns].
        not_finite: how many samples have a NaN or infinite value.
    """

    feature: Feature
    episode: int
    time_ns: NDArray[np.int64]
    not_finite: int


@dataclass(frozen=True)
class Evidence:
    """The readable episodes of a store, back to back in N rows.

    Attributes:
        spec: its Spec.
        rate_hz: its rate; 0 where it does not say.
        lengths: ``[all]`` steps of every episode, readable or not.
        unfinished_steps: steps on disk after the last episode.
        unreadable: what cannot be read, by episode.
        episodes: ``[E]`` the numbers of the readable episodes.
        ends: ``[E]`` the row after the last of each.
        time_ns: int64 ``[N]`` the time of each step [ns]; ``None`` where the store has none.
        values: ``[N, *shape]`` by key, for every feature that is small.
        frames: figures of N images or other large samples by key.
        streams: of the readable episodes.
        events: of the readable episodes.
    """

    spec: Spec
    rate_hz: float
    lengths: NDArray[np.int64]
    unfinished_steps: int
    unreadable: Mapping[int, str]
    episodes: NDArray[np.int64]
    ends: NDArray[np.int64]
    time_ns: NDArray[np.int64] | None
    values: Mapping[str, NDArray[Any]]
    frames: Mapping[str, FrameFigures]
    streams: Sequence[StreamEvidence]
    events: Sequence[Event]

    @property
    def rows(self) -> int:
        """N."""
        return int(self.ends[-1]) if len(self.ends) else 0

    @property
    def follows(self) -> NDArray[np.bool_]:
        """``[N]``: whether a row has a step of the same episode before it."""
        found = np.ones(self.rows, bool)
        found[self.ends[:-1]] = False
        found[:1] = False
        return found

    def extent(self, episode: int) -> tuple[int, int] | None:
        """Returns the times of the first and of the last step of a readable episode [ns], where known."""
        if self.time_ns is None:
            return None
        place = int(np.searchsorted(self.episodes, episode))
        start = int(self.ends[place - 1]) if place else 0
        return int(self.time_ns[start]), int(self.time_ns[self.ends[place] - 1])

    def finite(self, feature: Feature) -> NDArray[np.bool_]:
        """Returns ``[N]``: whether every value of ``feature`` in a row is finite."""
        if feature.key in self.frames:
            return self.frames[feature.key].finite
        values = self.values[feature.key]
        if values.dtype.kind != "f":
            return np.ones(len(values), bool)
        return np.isfinite(values).reshape(len(values), feature.size).all(axis=1)

    def spans(self, marked: NDArray[np.bool_]) -> Iterator[Span]:
        """Yields the marked rows ``[N]``, episode by episode."""
        rows = np.flatnonzero(marked)
        owners = np.searchsorted(self.ends, rows, side="right")
        found, firsts, counts = np.unique(owners, return_index=True, return_counts=True)
        for owner, index, count in zip(found.tolist(), firsts.tolist(), counts.tolist(), strict=True):
            start = int(self.ends[owner - 1]) if owner else 0
            first, last = int(rows[index]), int(rows[index + count - 1])
            yield Span(int(self.episodes[owner]), first - start, last - start, count, first)


def streamed(feature: Feature) -> bool:
    """Whether the samples of ``feature`` are too large to have all of them in memory."""
    return feature.is_image or feature.size > _LARGE


def stream_name(store: DemoStore, feature: Feature) -> str:
    """Returns what a stream is called beside the steps: its key; where they have that too, its folder."""
    steps = {step.key for step in store.spec.features}
    return f"streams/{feature.key}" if feature.key in steps else feature.key


def gather(store: DemoStore, progress: Callable[[int, int], None] | None = None) -> Evidence:
    """Reads a store, whole or damaged; of images only figures are kept.

    Args:
        store: the store.
        progress: called with (episodes done, episodes in all).
    """
    ends = store.episode_ends
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    unreadable: dict[int, str] = {}
    features = store.spec.features
    values = {
        feature.key: _values(store, feature.key, feature.shape, feature.dtype, starts, unreadable)
        for feature in features
        if not streamed(feature)
    }
    time_ns = _values(store, TIME_KEY, (), "int64", starts, unreadable) if store.has_time else None
    frames = {feature.key: FrameFigures.empty(store.num_steps) for feature in features if streamed(feature)}
    streams: list[StreamEvidence] = []
    for episode in range(len(store)):
        try:
            for key, figures in frames.items():
                figures.measure(store, store.spec[key], int(starts[episode]), int(ends[episode]))
            streams += [_stream(store, feature, episode) for feature in store.streams]
        except StoreError as error:
            unreadable[episode] = str(error)
        if progress is not None:
            progress(episode + 1, len(store))
    lengths = np.diff(ends, prepend=0)
    readable = np.array([episode not in unreadable for episode in range(len(store))], bool)
    if unreadable:
        kept = np.repeat(readable, lengths)
        values = {key: array[kept] for key, array in values.items()}
        time_ns = None if time_ns is None else time_ns[kept]
        frames = {key: figures.select(kept) for key, figures in frames.items()}
    return Evidence(
        spec=store.spec,
        rate_hz=store.rate_hz,
        lengths=lengths,
        unfinished_steps=store.unfinished_steps,
        unreadable=unreadable,
        episodes=np.flatnonzero(readable),
        ends=np.cumsum(lengths[readable]),
        time_ns=time_ns,
        values=values,
        frames=frames,
        streams=[stream for stream in streams if readable[stream.episode]],
        events=[event for event in store.events() if readable[event.episode]],
    )


def _stream(store: DemoStore, feature: Feature, episode: int) -> StreamEvidence:
    stream = store.stream(feature.key, episode)
    spoiled = 0
    if stream.value.dtype.kind == "f":
        spoiled = int((~np.isfinite(stream.value.reshape(-1, feature.size)).all(axis=1)).sum())
    return StreamEvidence(feature, episode, stream.time_ns, spoiled)


def _values(
    store: DemoStore,
    key: str,
    shape: tuple[int, ...],
    dtype: str,
    starts: NDArray[np.int64],
    unreadable: dict[int, str],
) -> NDArray[Any]:
    """Reads all rows of ``key``; where that fails, episode by episode, noting those that cannot be read."""
    try:
        return store.array(key)
    except StoreError:
        found = np.zeros((store.num_steps, *shape), dtype)
    for episode, (start, end) in enumerate(zip(starts, store.episode_ends, strict=True)):
        try:
            found[start:end] = store.rows(key, int(start), int(end))
        except StoreError as error:
            unreadable[episode] = str(error)
    return found
