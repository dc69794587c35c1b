"""Samples of a stream in memory, and their values at any points in time.

Training and inference read the past of a sensor by the same routine: from equal samples it makes equal
numbers, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import NANOSECONDS

Times = NDArray[np.int64]


def evenly_spaced(points: int, before_s: float, after_s: float = 0.0) -> Times:
    """Returns points in time ``[points]``, from ``-before_s`` to ``after_s`` around an instant [ns]."""
    spacing = np.linspace(after_s, -before_s, points)[::-1]
    return np.round(NANOSECONDS * spacing).astype(np.int64)


class StreamSamples:
    """All samples of a stream in some episodes.

    Takes 8 bytes a sample for its time, and its value; floats are kept as float32.

    Args:
        parts: of each episode the values ``[N, *shape]`` and their times ``[N]``, strictly increasing
            [ns, the episode's clock]; episodes are called by their position from here on.
    """

    def __init__(self, parts: Sequence[tuple[NDArray[Any], Times]]) -> None:
        values, times = zip(*parts, strict=True)
        lengths = np.array([len(time_ns) for time_ns in times], dtype=np.int64)
        nothing = np.zeros((1, *values[0].shape[1:]), values[0].dtype)
        value = np.concatenate([*values, nothing])
        self.value = value.astype(np.float32, copy=False) if value.dtype.kind == "f" else value
        """``[N + 1, *shape]``; the last row, of zeros, stands for a sample that is not there."""
        self.time: Times = np.concatenate([*times, [0]])
        """int64 ``[N + 1]`` [ns]"""
        self.end: Times = np.cumsum(lengths)
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

    def until(self, time: Times, episode: NDArray[np.intp]) -> Times:
        """Returns the row after the last sample at or before ``time``, within its episode.

        Args:
            time: ``[B, n]`` [ns, the episode's clock].
            episode: ``[B]``.
        """
        column = episode[:, None]
        place = time + self._shift.take(column)
        np.clip(place, self._low.take(column), self._high.take(column), out=place)
        return self._axis.searchsorted(place, side="right")

    def at(self, time: Times, episode: NDArray[np.intp]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Returns the values at points in time, as known at the last of them.

        Floats are interpolated linearly between two samples; of other types the previous sample is shown.
        Nothing later than the last point is used: after the newest sample before it that one's value holds.
        Before an episode's first sample that one's value holds, where it is not later either; else it is 0.

        Args:
            time: ``[B, n]``, increasing [ns, the episode's clock].
            episode: ``[B]``.

        Returns:
            values ``[B, n, *shape]``, and whether a point lies between the first and the last sample of the
            episode ``[B, n]``.
        """
        first, end = self.first[episode][:, None], self.end[episode][:, None]
        visible = self.until(time[:, -1:], episode)
        following = self.until(time, episode)
        left, right = (np.clip(rows, first, visible - 1) for rows in (following - 1, following))
        seen = visible > first
        left, right = (np.where(seen, rows, self.none) for rows in (left, right))
        value = self.value.take(left, axis=0)
        if value.dtype.kind == "f":
            begin = self.time.take(left)
            gap = self.time.take(right) - begin  # 0 where a value holds
            share = np.where(gap > 0, (time - begin) / np.maximum(gap, 1), 0).astype(np.float32)
            share = share.reshape(*share.shape, *[1] * (value.ndim - 2))
            value += share * (self.value.take(right, axis=0) - value)
        there = (time >= self.time[first]) & (time <= self.time[end - 1])
        return value, seen & there
