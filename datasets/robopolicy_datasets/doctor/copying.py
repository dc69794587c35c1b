"""Copies of chosen episodes into a new store: what every editing verb does in the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store.codecs import EncodedRows, parse_codec
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.store.episode import EpisodeInfo, NewEpisode, check_episode
from robopolicy_datasets.store.events import Event
from robopolicy_datasets.store.filling import append_all
from robopolicy_datasets.store.layout import TIME_KEY
from robopolicy_datasets.store.staging import new_store
from robopolicy_datasets.store.streams import Stream


@dataclass(frozen=True)
class EpisodeCopy:
    """An episode of a new store.

    Attributes:
        source: the store that it comes from.
        episode: its number there.
        steps: int ``[T]`` the steps to keep, ascending; ``None`` for all.
        info: its new info; ``None`` for the old one.
    """

    source: DemoStore
    episode: int
    steps: NDArray[np.intp] | None = None
    info: EpisodeInfo | None = None

    @property
    def bounds(self) -> tuple[int, int]:
        """The rows of the whole episode in the source: first, and after the last."""
        ends = self.source.episode_ends
        return (int(ends[self.episode - 1]) if self.episode else 0), int(ends[self.episode])

    def read(self, spec: Spec, streams: Sequence[Feature]) -> NewEpisode:
        """Reads the kept steps of the features of ``spec``, and what lies beside them in time.

        Raises:
            StoreError: the bytes are damaged, or the source has no time.
        """
        start, stop = self.bounds
        low = start
        kept: slice | NDArray[np.intp] = slice(None)
        rows = np.arange(start, stop)
        if self.steps is not None:
            low, stop = start + int(self.steps[0]), start + int(self.steps[-1]) + 1
            kept = self.steps - self.steps[0]
            rows = start + self.steps
        data: dict[str, NDArray[Any] | EncodedRows] = {}
        for key in (feature.key for feature in spec.features):
            if is_lossy(self.source, key):
                data[key] = self.source.encoded(key, rows)
            else:
                data[key] = self.source.rows(key, low, stop)[kept]
        time_ns = self.source.rows(TIME_KEY, low, stop)[kept]
        info = self.info or self.source.episode_info(self.episode)
        return NewEpisode(data, info, time_ns, *self._beside(streams, time_ns))

    def _beside(
        self, streams: Sequence[Feature], time_ns: NDArray[np.int64]
    ) -> tuple[dict[str, Stream], list[Event]]:
        """Returns the samples and the events that lie in the kept steps' time; of a whole episode all."""
        first, stop = self.bounds
        whole = len(time_ns) == stop - first
        begin, end = int(time_ns[0]), int(time_ns[-1])
        kept = {}
        for key in (feature.key for feature in streams):
            stream = self.source.stream(key, self.episode)
            inside = slice(None) if whole else (stream.time_ns >= begin) & (stream.time_ns <= end)
            kept[key] = Stream(stream.value[inside], stream.time_ns[inside])
        events = list(self.source.events(self.episode))
        if not whole:
            events = [
                replace(event, start_ns=max(event.start_ns, begin), end_ns=min(event.end_ns, end))
                for event in events
                if event.start_ns <= end and event.end_ns >= begin
            ]
        return kept, events


def copy_episodes(
    plan: Sequence[EpisodeCopy],
    target: str | Path,
    spec: Spec,
    *,
    rate_hz: float,
    metadata: Mapping[str, Any],
    done: str,
    streams: Sequence[Feature] = (),
    progress: Callable[[int, int], None] | None = None,
) -> DemoStore:
    """Writes a new store of copied episodes; it appears complete or not at all, the sources stay as they are.

    Args:
        plan: the episodes in the order of the new store.
        target: the new store; must not exist.
        spec: the features to copy; floats and integers of the sources may be narrower.
        rate_hz: of the new store, steps per second.
        metadata: of the new store.
        done: what is done to the sources, for messages, e.g. ``"merged"``.
        streams: those to copy.
        progress: called with (episodes done, episodes in all).

    Returns:
        The new store, open for reading.

    Raises:
        StoreError: no episode is left, a source has no rate, a value is refused (NaN, time that does not
            increase), or the target exists or cannot be written.
    """
    names = ", ".join(dict.fromkeys(str(copy.source.path) for copy in plan))
    if not plan:
        raise StoreError("No episode is left to copy; nothing was written. Choose at least one.")
    for copy in plan:
        require_time(copy.source)
    with new_store(
        names,
        target,
        spec,
        rate_hz=rate_hz,
        metadata=metadata,
        codecs=_common_codecs(plan, [*spec.features, *streams]),
        streams=streams,
        done=done,
    ) as store:
        episodes = (_checked(copy, spec, rate_hz, streams) for copy in plan)
        append_all(store, episodes, len(plan), progress)
    return DemoStore.open(target)


def is_lossy(store: DemoStore, key: str) -> bool:
    """Tells whether the codec of an array loses something, so that it should be copied as it is."""
    return key in store.codecs and not parse_codec(store.codecs[key]).lossless


def _common_codecs(plan: Sequence[EpisodeCopy], features: Sequence[Feature]) -> dict[str, str]:
    """Returns the codec of each feature for which all sources have the same."""
    sources = {id(copy.source): copy.source.codecs for copy in plan}.values()
    found = {feature.key: {codecs.get(feature.key) for codecs in sources} for feature in features}
    return {key: codec for key, (codec, *others) in found.items() if codec and not others}


def require_time(store: DemoStore) -> None:
    """Checks that ``store`` has a rate and times, as ours do.

    Raises:
        StoreError: it has not.
    """
    if not store.has_time:
        raise StoreError(
            f"{store.path} was not written by robopolicy and says no time. "
            "Bring it into a store of its own with `robopolicy data import` first."
        )


def _checked(copy: EpisodeCopy, spec: Spec, rate_hz: float, streams: Sequence[Feature]) -> NewEpisode:
    episode = copy.read(spec, streams)
    try:
        check_episode(episode, spec, rate_hz, streams)  # the store would not say which one of the source
    except StoreError as error:
        raise StoreError(
            f"Episode {copy.episode} of {copy.source.path.name}: {error} "
            "`robopolicy data repair` writes a store without such faults."
        ) from error
    return episode
