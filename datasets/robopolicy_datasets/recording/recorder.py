"""The recorder: one episode after the other into a store, while they happen."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from robopolicy_datasets.clock import now_ns, seconds_to_ns, wall_anchor_ns
from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.recording.aligner import StepAligner
from robopolicy_datasets.recording.gaps import GapWatch
from robopolicy_datasets.recording.sources import Source, SourceReader, check_sources
from robopolicy_datasets.store import DemoStore, EpisodeInfo, Event
from robopolicy_datasets.store.live import LiveEpisode

_log = logging.getLogger(__name__)
_POLL_S = 0.005
_LEAD_S = 0.5  # of streams before the first step, whose window is to show them too
STEPS = "steps"  # the name under which missing steps are counted


@dataclass(frozen=True)
class RecordedEpisode:
    """What became of a recording.

    Attributes:
        index: of the episode in the store.
        steps: in it.
        samples: in each stream.
        missing: how many samples or steps (under ``"steps"``) are missing, by key, a source's being that of
            its first key; each gap is an event.
        repeated: how many samples were left out since their time was not after the one before, likewise.
        fault: why a source failed before the end; empty where none did.
        save_s: time that saving took [s].
    """

    index: int
    steps: int
    samples: Mapping[str, int]
    missing: Mapping[str, int]
    repeated: Mapping[str, int]
    fault: str
    save_s: float


class Recorder:
    """Records episodes into a store, which no other process can write to meanwhile; any can read it.

    Between ``start`` and ``save`` or ``discard`` either its ``sources`` are read in a thread, and steps at
    the store's rate are made of their samples; or the caller gives ``step`` after ``step``, and sources, if
    any, bring the streams alone: from half a second before the first step on.
    Images are encoded in threads and written along the way. When these cannot keep up, at most ``memory``
    bytes wait for them and then whoever brings more does: nothing is left out. What sources lose meanwhile is
    counted, and kept as events of the kind ``"gap"``.

    Args:
        store: open for appending.
        sources: where the samples of all streams of the store come from, and of all keys of its steps or of
            none.
        threads: that encode and write.
        memory: bytes that may wait for them.
        patience_s: how long a step waits for samples that come late [s].

    Raises:
        StoreError: another one is writing to the store, or the sources do not fit it.
    """

    def __init__(
        self,
        store: DemoStore,
        sources: Sequence[Source] = (),
        *,
        threads: int = 2,
        memory: int = 256 << 20,
        patience_s: float = 0.5,
    ) -> None:
        if sources:
            check_sources(store, sources)
        self._store, self._sources = store, sources
        brought = {key for source in sources for key in source.keys}
        self._makes_steps = brought.issuperset(store.keys())
        self._threads, self._memory, self._patience_s = threads, memory, patience_s
        self._live: LiveEpisode | None = None
        self._held = ExitStack()
        self._held.enter_context(store.held())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def recording(self) -> bool:
        """Whether an episode is under way."""
        return self._live is not None

    @property
    def steps(self) -> int:
        """Steps of the episode that is under way."""
        return 0 if self._live is None else self._live.steps

    @property
    def fault(self) -> str:
        """Why a source has failed in the episode that is under way; empty while none has."""
        return "" if self._live is None else self._fault

    def start(self, info: EpisodeInfo | None = None) -> None:
        """Begins an episode.

        Args:
            info: task, operator, embodiment, ...; its wall-clock anchor is set where there is none.

        Raises:
            StoreError: one is under way.
        """
        if self._live is not None:
            raise StoreError("An episode is being recorded; save or discard it before the next one.")
        info = info or EpisodeInfo()
        self._info = info if info.wall_time_ns else replace(info, wall_time_ns=wall_anchor_ns())
        self._events: list[Event] = []
        self._fault = ""
        store, features = self._store, (*self._store.spec.features, *self._store.streams)
        self._gaps = GapWatch({feature.key: feature.rate_hz for feature in features} | {STEPS: store.rate_hz})
        self._aligner = StepAligner(store.keys(), rate_hz=store.rate_hz, patience_s=self._patience_s)
        self._readers: list[SourceReader] = []
        self._live = store.live_episode(threads=self._threads, memory=self._memory)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        if self._makes_steps:
            self._read_from(now_ns())

    def step(self, values: Mapping[str, ArrayLike], time_ns: int | None = None) -> None:
        """Adds one step; waits while too much is to be encoded.

        Args:
            values: ``[*shape]`` for every key of the store's Spec; copied.
            time_ns: later than the step before [ns, monotonic]; now by default.

        Raises:
            StoreError: the values do not fit, no episode is under way, a source has failed, or the disk is
                full.
        """
        time_ns = now_ns() if time_ns is None else time_ns
        self._under_way().add_step(values, time_ns)
        if self._sources and self._thread is None:
            self._read_from(time_ns - seconds_to_ns(_LEAD_S))
        if self._fault:
            raise StoreError(f"The streams of this episode have ended: {self._fault} Save or discard it.")
        self._gaps.saw(STEPS, np.array([time_ns]))

    def samples(self, key: str, value: ArrayLike, time_ns: ArrayLike) -> None:
        """Adds samples to a stream; waits while too much is to be encoded.

        Args:
            key: of the stream.
            value: ``[n, *shape]``; copied.
            time_ns: int64 ``[n]``, increasing and later than the sample before [ns, monotonic].

        Raises:
            StoreError: the samples do not fit, no episode is under way, or the disk is full.
        """
        self._under_way().add_samples(key, value, time_ns)
        self._gaps.saw(key, np.asarray(time_ns, np.int64))

    def event(self, event: Event) -> None:
        """Notes what happened in the episode that is under way.

        Raises:
            StoreError: no episode is under way, or the event cannot be stored.
        """
        self._under_way()
        event.to_text()
        self._events.append(event)

    def save(self, success: bool | None = None) -> RecordedEpisode:
        """Ends the episode and makes it a part of the store; it is on disk for good when this returns.

        Args:
            success: whether the task was done; ``None`` where nobody said.

        Raises:
            StoreError: no episode is under way, it has no steps, or the disk is full; after the latter it can
                be tried again.
        """
        live = self._under_way()
        started = time.monotonic()
        self._end()
        info = self._info if success is None else replace(self._info, success=success)
        live.commit(info, [*self._events, *self._gaps.events()])
        self._live = None
        recorded = RecordedEpisode(
            index=len(self._store) - 1,
            steps=live.steps,
            samples=live.samples,
            missing=self._gaps.missing,
            repeated={reader.source.keys[0]: reader.repeated for reader in self._readers if reader.repeated},
            fault=self._fault,
            save_s=time.monotonic() - started,
        )
        _tell(recorded)
        return recorded

    def discard(self) -> None:
        """Ends the episode and forgets it.

        Raises:
            StoreError: no episode is under way.
        """
        live = self._under_way()
        self._ended.set()
        live.discard()  # before the reader ends, which may be waiting for room
        self._end()
        self._live = None

    def close(self) -> None:
        """Lets other writers at the store; an episode that was neither saved nor discarded is lost."""
        if self._live is not None:
            _log.warning("The recorder was closed while recording; the episode was discarded.")
            self.discard()
        self._held.close()

    def _under_way(self) -> LiveEpisode:
        if self._live is None:
            raise StoreError("No episode is being recorded; call start() first.")
        return self._live

    def _read_from(self, start_ns: int) -> None:
        """Begins to read the sources; what was before does not belong to the episode."""
        self._readers = [SourceReader(source, start_ns) for source in self._sources]
        self._thread = threading.Thread(target=self._read_until_ended, name="robopolicy-read", daemon=True)
        self._thread.start()

    def _end(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _read_until_ended(self) -> None:
        """Reads the sources; in a thread of its own, where a failure ends the reading and is noted."""
        try:
            while not self._ended.wait(_POLL_S):
                self._read_sources()
            if not self._fault:
                self._read_sources()
        except Exception as error:  # whatever a device may raise
            self._fault = f"{type(error).__name__}: {error}"
            self._events.append(Event("fault", now_ns(), now_ns(), self._fault, author="recorder"))
            if not self._ended.is_set():
                _log.error("Recording has stopped: %s Save it as far as it goes, or discard it.", error)

    def _read_sources(self) -> None:
        live = self._under_way()
        step_keys = set(self._store.keys()) if self._makes_steps else set()
        streams = {feature.key for feature in self._store.streams}
        for reader in self._readers:
            (samples, lost), keys = reader.read(), reader.source.keys
            self._gaps.saw(keys[0], samples.time_ns, lost)
            for key in keys:
                if key in step_keys:
                    self._aligner.put(key, samples.time_ns, samples.values[key])
                if key in streams:
                    live.add_samples(key, samples.values[key], samples.time_ns)
        if step_keys:
            for time_ns, values in self._aligner.steps(now_ns()):
                live.add_step(values, time_ns)


def _tell(recorded: RecordedEpisode) -> None:
    """Warns of what a recording lacks."""
    if recorded.missing:
        _log.warning("Episode %d lacks %s; see its events.", recorded.index, _listed(recorded.missing))
    if recorded.repeated:
        text = "Episode %d is without %s, whose time was not after the one before: see the device's clock."
        _log.warning(text, recorded.index, _listed(recorded.repeated))
    empty = [key for key, count in recorded.samples.items() if not count]
    if empty:
        _log.warning("Episode %d has no samples of the stream %s.", recorded.index, ", ".join(empty))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} of '{key}'" for key, count in counts.items())
