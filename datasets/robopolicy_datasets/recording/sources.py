"""What the recorder needs of a sensor, a robot or whatever else brings samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import StoreError, nearest_names
from robopolicy_datasets.store import DemoStore

_OTHER_CLOCK_NS = 3600 * 1_000_000_000


@dataclass(frozen=True)
class Samples:
    """What a source has brought since it was last asked.

    Attributes:
        time_ns: int64 ``[n]``, increasing [ns, monotonic]; n may be 0.
        values: ``[n, *shape]`` by key.
        lost: samples that there were in between and that the source could not keep: before the first one, or
            ``[n]`` before each.
    """

    time_ns: NDArray[np.int64]
    values: Mapping[str, NDArray]
    lost: int | NDArray[np.int64] = 0


class Source(Protocol):
    """Brings samples of one or more keys that are taken at the same time, such as a robot's state."""

    @property
    def keys(self) -> Sequence[str]:
        """What each sample holds: keys of the store's Spec or of its streams."""

    def read(self) -> Samples:
        """Returns all samples since the last call, without waiting for more; its arrays never change later.

        Raises:
            Exception: the device has failed; the episode then ends there, and can still be saved.
        """


class SourceReader:
    """Reads a source: from some time on, and only samples that are later than those before.

    What a source has lost before it is read for the first time is not counted.

    Args:
        source: to read.
        start_ns: samples before it are left out [ns, monotonic].

    Attributes:
        repeated: samples that were left out because their time was not after that of the one before.
    """

    def __init__(self, source: Source, start_ns: int) -> None:
        self.source = source
        self.repeated = 0
        self._has_read = False
        self._after_ns = self._start_ns = start_ns - 1

    def read(self) -> tuple[Samples, int]:
        """Returns the samples since the last call, and how many were lost since the one before them.

        Raises:
            StoreError: their times are of another clock than ours.
            Exception: the source's own.
        """
        samples = self.source.read()
        times = samples.time_ns
        if len(times) and abs(int(times[-1]) - now_ns()) > _OTHER_CLOCK_NS:
            raise StoreError(
                f"Samples of {', '.join(self.source.keys)} have the time {times[-1]} ns; now is {now_ns()}: "
                "give the time of the monotonic clock, as robopolicy_datasets.clock.now_ns() does."
            )
        before = (
            np.maximum.accumulate(np.concatenate([[self._after_ns], times[:-1]])) if len(times) else times
        )
        later = times > before
        self.repeated += int((~later & (times > self._start_ns)).sum())
        if later.any():
            self._after_ns = int(times[later][-1])
        values = {key: samples.values[key][later] for key in self.source.keys}
        lost = np.sum(samples.lost)
        if not self._has_read:  # before the first one that counts
            lost = np.sum(samples.lost[later][1:]) if isinstance(samples.lost, np.ndarray) else 0
        self._has_read = True
        return Samples(times[later], values), int(lost)


def check_sources(store: DemoStore, sources: Sequence[Source]) -> None:
    """Checks that ``sources`` bring all streams, all keys of the steps or none, and nothing twice or else.

    Raises:
        StoreError: says what is missing or too much.
    """
    brought = [key for source in sources for key in source.keys]
    streams = [feature.key for feature in store.streams]
    known = list(dict.fromkeys([*store.keys(), *streams]))
    for key in brought:
        if key not in known:
            options = ", ".join(nearest_names(key, known))
            raise StoreError(
                f"A source brings '{key}', which {store.path} does not hold. It holds: {options}."
            )
    twice = sorted({key for key in brought if brought.count(key) > 1})
    if twice:
        raise StoreError(f"Several sources bring {', '.join(twice)}; one of them is enough.")
    needed = streams if set(brought) <= set(streams) else known
    missing = [key for key in needed if key not in brought]
    if missing:
        raise StoreError(
            f"No source brings {', '.join(missing)}, which {store.path} holds. Add one for each, or make a "
            "store without them."
        )
