"""Windows over streams: the samples of a sensor with a rate of its own, between two instants.

Instants are relative to the time of the present step. ``Resampled`` reads a fixed number of points in time,
``Ragged`` the samples themselves.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import NANOSECONDS
from robopolicy_datasets.errors import ConfigError, StoreError
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.store.episode import first_not_finite
from robopolicy_datasets.windows.batches import StreamBatch

Times = NDArray[np.int64]


class StreamSamples:
    """All samples of a stream in the chosen episodes, in memory.

    Takes 8 bytes a sample for its time, and its value; floats are kept as float32.

    Args:
        store: where they come from.
        key: of the stream.
        episodes: the chosen ones; called by their position among them from here on.

    Raises:
        StoreError: there is no such stream, or a value is not finite.
    """

    def __init__(self, store: DemoStore, key: str, episodes: Sequence[int] | Times) -> None:
        parts = [store.stream(key, int(episode)) for episode in episodes]
        for episode, part in zip(episodes, parts, strict=True):
            sample = first_not_finite(part.value)
            if sample is not None:
                raise StoreError(
                    f"The stream '{key}' of {store.path} is not finite (NaN or infinite) in episode "
                    f"{episode} at sample {sample}. Leave the episode out or repair it."
                )
        lengths = np.array([len(part.time_ns) for part in parts], dtype=np.int64)
        nothing = np.zeros((1, *parts[0].value.shape[1:]), parts[0].value.dtype)
        value = np.concatenate([*(part.value for part in parts), nothing])
        self.value = value.astype(np.float32, copy=False) if value.dtype.kind == "f" else value
        """``[N + 1, *shape]``; the last row, of zeros, stands for a sample that is not there."""
        self.time: Times = np.concatenate([*(part.time_ns for part in parts), [0]])
        """int64 ``[N + 1]`` [ns]"""
        self.end: NDArray[np.int64] = np.cumsum(lengths)
        """The row after each episode's last sample, ``[E]``."""
        self.first = self.end - lengths
        """The row of each episode's first sample, ``[E]``."""
        # Clocks differ between episodes. On one axis, with the episodes' spans one after the other, the
        # samples of all are in order, and one search finds those of a whole batch.
        there = lengths > 0
        begins = np.where(there, self.time[self.first], 0)
        spans = np.where(there, self.time[self.end - 1] - begins, 0)
        self._low = np.cumsum(spans + 1) - (spans + 1)  # a nanosecond before its first sample
        self._high = self._low + 1 + spans
        self._shift = self._low + 1 - begins
        self._axis = self.time[:-1] + np.repeat(self._shift, lengths)

    @property
    def none(self) -> int:
        """The row that stands for a sample that is not there."""
        return len(self.time) - 1

    def until(self, time: Times, episode: NDArray[np.intp]) -> NDArray[np.int64]:
        """Returns the row after the last sample at or before ``time``, within its episode.

        Args:
            time: ``[B, n]`` [ns, the episode's clock].
            episode: ``[B]``.
        """
        column = episode[:, None]
        place = time + self._shift.take(column)
        np.clip(place, self._low.take(column), self._high.take(column), out=place)
        return self._axis.searchsorted(place, side="right")


class StreamWindow(ABC):
    """The samples of a stream that a window shows."""

    before_s: float
    after_s: float

    @abstractmethod
    def gather(self, samples: StreamSamples, now: Times, episode: NDArray[np.intp]) -> StreamBatch:
        """Gathers the samples of B windows.

        Args:
            samples: of the stream.
            now: ``[B, 1]``, time of the present steps [ns].
            episode: ``[B]``.
        """

    def _check(self, number: int) -> None:
        if number < 1 or not 0 <= self.before_s + self.after_s < np.inf:
            raise ConfigError(
                f"A window of {number} samples from {self.before_s} s before the present step to "
                f"{self.after_s} s after it is not possible: at least one sample, and no end "
                "before the beginning."
            )


@dataclass(frozen=True)
class Resampled(StreamWindow):
    """A stream at evenly spaced points in time, from ``before_s`` before the present to ``after_s`` after it.

    Floats are interpolated linearly between two samples; of other types the previous sample is shown. Only
    samples up to the window's end are used: after the newest one of them its value holds, so that nothing
    later is ever seen. Before an episode's first sample that one's value holds, where it is not later
    either. ``mask`` says which points lie between the first and the last sample of the episode.

    Attributes:
        samples: points; the last one at ``after_s``.
        before_s: [s]
        after_s: [s]; 0 shows the past only, below 0 it is seen late.

    Raises:
        ConfigError: no points, or an end before the beginning.
    """

    samples: int
    before_s: float
    after_s: float = 0.0

    def __post_init__(self) -> None:
        self._check(self.samples)

    def gather(self, samples: StreamSamples, now: Times, episode: NDArray[np.intp]) -> StreamBatch:
        """See ``StreamWindow.gather``."""
        spacing = np.linspace(self.after_s, -self.before_s, self.samples)[::-1]
        points = np.round(NANOSECONDS * spacing).astype(np.int64)
        time = now + points
        first, end = samples.first[episode][:, None], samples.end[episode][:, None]
        visible = samples.until(time[:, -1:], episode)
        following = samples.until(time, episode)
        left, right = (np.clip(rows, first, visible - 1) for rows in (following - 1, following))
        seen = visible > first
        left, right = (np.where(seen, rows, samples.none) for rows in (left, right))
        value = samples.value.take(left, axis=0)
        if value.dtype.kind == "f":
            begin = samples.time.take(left)
            gap = samples.time.take(right) - begin  # 0 where a value holds
            share = np.where(gap > 0, (time - begin) / np.maximum(gap, 1), 0).astype(np.float32)
            share = share.reshape(*share.shape, *[1] * (value.ndim - 2))
            value += share * (samples.value.take(right, axis=0) - value)
        there = (time >= samples.time[first]) & (time <= samples.time[end - 1])
        return {"value": value, "time_ns": np.tile(points, (len(now), 1)), "mask": seen & there}


@dataclass(frozen=True)
class Ragged(StreamWindow):
    """All samples of a stream from ``before_s`` before the present up to ``after_s`` after it.

    The beginning is not included, the end is: windows that follow each other share no sample. Where there
    are more than ``most``, the newest are shown. They come in the order of time; what is left of the
    ``most`` entries after them is 0 and masked.

    Attributes:
        most: entries of each window.
        before_s: [s]
        after_s: [s]; 0 shows the past only, below 0 it is seen late.

    Raises:
        ConfigError: no entries, or an end before the beginning.
    """

    most: int
    before_s: float
    after_s: float = 0.0

    def __post_init__(self) -> None:
        self._check(self.most)

    def gather(self, samples: StreamSamples, now: Times, episode: NDArray[np.intp]) -> StreamBatch:
        """See ``StreamWindow.gather``."""
        limits = np.round(NANOSECONDS * np.array([-self.before_s, self.after_s])).astype(np.int64)
        begin, end = np.split(samples.until(now + limits, episode), 2, axis=1)
        rows = np.maximum(begin, end - self.most) + np.arange(self.most)
        mask = rows < end
        rows = np.where(mask, rows, samples.none)
        time = np.where(mask, samples.time.take(rows) - now, 0)
        return {"value": samples.value.take(rows, axis=0), "time_ns": time, "mask": mask}
