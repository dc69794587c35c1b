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
from robopolicy_datasets.stream_samples import StreamSamples, Times, evenly_spaced
from robopolicy_datasets.windows.batches import StreamBatch


def stream_samples(store: DemoStore, key: str, episodes: Sequence[int] | Times) -> StreamSamples:
    """Returns all samples of a stream in the chosen episodes.

    Args:
        store: where they come from.
        key: of the stream.
        episodes: the chosen ones.

    Raises:
        StoreError: there is no such stream, or a value is not finite.
    """
    parts = [store.stream(key, int(episode)) for episode in episodes]
    for episode, part in zip(episodes, parts, strict=True):
        sample = first_not_finite(part.value)
        if sample is not None:
            raise StoreError(
                f"The stream '{key}' of {store.path} is not finite (NaN or infinite) in episode "
                f"{episode} at sample {sample}. Leave the episode out or repair it."
            )
    return StreamSamples([(part.value, part.time_ns) for part in parts])


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
        points = evenly_spaced(self.samples, self.before_s, self.after_s)
        value, mask = samples.at(now + points, episode)
        return {"value": value, "time_ns": np.tile(points, (len(now), 1)), "mask": mask}


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
