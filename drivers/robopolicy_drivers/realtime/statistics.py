"""Lateness of a loop's ticks: counts and a logarithmic histogram of constant size.

The numbers live in one int64 array, which may lie in shared memory: the loop adds to it in about a
microsecond, and another process reads it at any time without disturbing the loop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

BINS_PER_DECADE = 32
DECADES = 8  # 100 ns to 10 s
NUM_BINS = BINS_PER_DECADE * DECADES
FLOOR_NS = 100
LATE_NS = 10_000_000
VERY_LATE_NS = 50_000_000

_TICKS, _LATE, _VERY_LATE, _SKIPPED, _LONGEST, _FIRST_BIN = range(6)
_COUNTED = ("ticks", "late_10ms", "late_50ms", "skipped")  # what the first four are called in a summary


@dataclass(frozen=True)
class LatenessSummary:
    """How late the ticks of a loop began, against their absolute deadlines.

    Attributes:
        ticks: deadlines so far, skipped ones included.
        late_10ms: deadlines met more than 10 ms late; a skipped one is late until the loop is back.
        late_50ms: likewise, more than 50 ms late.
        skipped: deadlines that passed while an earlier tick was still at work.
        p50_ms, p99_ms, p999_ms: percentiles [ms], exact to 4 % (from the histogram).
        max_ms: the largest lateness [ms].
        histogram_edges_ms: ``[K + 1]`` bin edges [ms], from the first to the last bin in use.
        histogram: ``[K]`` deadlines per bin.
    """

    ticks: int
    late_10ms: int
    late_50ms: int
    skipped: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    histogram_edges_ms: tuple[float, ...] = field(repr=False)
    histogram: tuple[int, ...] = field(repr=False)

    @property
    def late_share(self) -> float:
        """Share of deadlines met more than 10 ms late, in [0, 1]."""
        return self.late_10ms / self.ticks if self.ticks else 0.0

    @classmethod
    def joined(cls, summaries: Sequence[LatenessSummary]) -> LatenessSummary:
        """Returns the figures of several loops together; without any all are 0."""
        bins = np.zeros(NUM_BINS, np.int64)
        for summary in summaries:
            first = round(math.log10(summary.histogram_edges_ms[0] / _edge_ms(0)) * BINS_PER_DECADE)
            bins[first : first + len(summary.histogram)] += summary.histogram
        return _summary(
            [sum(getattr(summary, name) for summary in summaries) for name in _COUNTED],
            max((summary.max_ms for summary in summaries), default=0.0),
            bins,
        )

    def since(self, earlier: LatenessSummary) -> LatenessSummary:
        """Returns the figures of the deadlines after an earlier summary of the same loop.

        ``max_ms`` is exact where it has grown since, else known to the width of a bin (7 %).
        """
        before = dict(zip(earlier.histogram_edges_ms, earlier.histogram, strict=False))
        edges = self.histogram_edges_ms
        counts = [count - before.get(low, 0) for low, count in zip(edges, self.histogram, strict=False)]
        used = [index for index, count in enumerate(counts) if count] or [0]
        edges, counts = edges[used[0] : used[-1] + 2], counts[used[0] : used[-1] + 1]
        longest_ms = self.max_ms
        if longest_ms == earlier.max_ms:
            longest_ms = min(longest_ms, edges[-1]) if sum(counts) else 0.0
        return LatenessSummary(
            ticks=self.ticks - earlier.ticks,
            late_10ms=self.late_10ms - earlier.late_10ms,
            late_50ms=self.late_50ms - earlier.late_50ms,
            skipped=self.skipped - earlier.skipped,
            **_percentiles_ms(counts, edges, longest_ms),
            max_ms=longest_ms,
            histogram_edges_ms=edges,
            histogram=tuple(counts),
        )


class LatenessStatistics:
    """Collects lateness; see the module text.

    Args:
        storage: int64 array ``[SIZE]`` to count in, e.g. in shared memory; None makes one.
    """

    SIZE = _FIRST_BIN + NUM_BINS

    def __init__(self, storage: NDArray[np.int64] | None = None) -> None:
        self._counts = np.zeros(self.SIZE, np.int64) if storage is None else storage

    def add(self, lateness_ns: int, *, skipped: bool = False) -> None:
        """Counts one deadline.

        Args:
            lateness_ns: how long after its deadline the tick began [ns]; negative counts as zero.
            skipped: whether the deadline was never served by a tick of its own.
        """
        counts = self._counts
        counts[_TICKS] += 1
        counts[_FIRST_BIN + _bin_of(lateness_ns)] += 1
        if lateness_ns > LATE_NS:
            counts[_LATE] += 1
            if lateness_ns > VERY_LATE_NS:
                counts[_VERY_LATE] += 1
        if skipped:
            counts[_SKIPPED] += 1
        if lateness_ns > counts[_LONGEST]:
            counts[_LONGEST] = lateness_ns

    def reset(self) -> None:
        """Starts counting from zero."""
        self._counts[:] = 0

    def summary(self) -> LatenessSummary:
        """Returns the figures so far."""
        counts = self._counts.copy()
        return _summary(counts[:_LONGEST].tolist(), float(counts[_LONGEST]) / 1e6, counts[_FIRST_BIN:])


def _bin_of(lateness_ns: int) -> int:
    if lateness_ns <= FLOOR_NS:
        return 0
    return min(int(math.log10(lateness_ns / FLOOR_NS) * BINS_PER_DECADE), NUM_BINS - 1)


def _edge_ms(index: int) -> float:
    return FLOOR_NS * 10 ** (index / BINS_PER_DECADE) / 1e6


def _summary(counted: Sequence[int], longest_ms: float, bins: NDArray[np.int64]) -> LatenessSummary:
    """Returns the figures of the counts ``_COUNTED``, the largest lateness and a histogram of all bins."""
    used = np.flatnonzero(bins)
    first, last = (int(used[0]), int(used[-1])) if used.size else (0, 0)
    edges = tuple(_edge_ms(index) for index in range(first, last + 2))
    histogram = tuple(bins[first : last + 1].tolist())
    ticks, late, very_late, skipped = counted
    return LatenessSummary(
        ticks=ticks,
        late_10ms=late,
        late_50ms=very_late,
        skipped=skipped,
        **_percentiles_ms(histogram, edges, longest_ms),
        max_ms=longest_ms,
        histogram_edges_ms=edges,
        histogram=histogram,
    )


def _percentiles_ms(counts: Sequence[int], edges_ms: Sequence[float], longest_ms: float) -> dict[str, float]:
    """Returns the percentiles of a histogram [ms] by their names in the summary."""
    cumulated = np.cumsum(counts)
    found = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999}
    for name, share in found.items():
        index = int(np.searchsorted(cumulated, share * cumulated[-1]))
        middle_ms = math.sqrt(edges_ms[index] * edges_ms[index + 1])
        found[name] = min(middle_ms, longest_ms) if cumulated[-1] else 0.0
    return found
