"""The steps at which windows stand, and the rows of the store around them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Places(NamedTuple):
    """Where B windows stand in a store.

    Attributes:
        present: ``[B, 1]``, row of the present step.
        first: ``[B, 1]``, row of the first step of its episode.
        last: ``[B, 1]``, row of the last one.
        episode: ``[B]``, the episode, as a position among the chosen ones.
    """

    present: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    episode: NDArray[np.intp]

    def rows(self, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the rows ``[B, n]`` at ``offsets [n]`` from the present; edge steps are repeated."""
        rows = self.present + offsets
        np.maximum(rows, self.first, out=rows)
        np.minimum(rows, self.last, out=rows)
        return rows

    def inside(self, offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Returns which of the steps at ``offsets [n]`` lie in the episode, ``[B, n]``."""
        rows = self.present + offsets
        return (rows >= self.first) & (rows <= self.last)


class Presents:
    """The present steps of all windows: a range of steps in each chosen episode.

    Takes memory by the episode, not by the step.

    Args:
        ends: the row after each episode's last, ``[E]``.
        episodes: the chosen ones.
        before: steps at the beginning of an episode at which no window stands.
        after: the same at its end.
    """

    def __init__(
        self, ends: NDArray[np.int64], episodes: NDArray[np.int64], *, before: int, after: int
    ) -> None:
        self._first = np.concatenate([[0], ends[:-1]])[episodes]
        self._last = ends[episodes] - 1
        counts = np.maximum(self._last - self._first + 1 - before - after, 0)
        self._ends = np.cumsum(counts)
        self._shift = self._first + before - (self._ends - counts)  # from a window's index to its row
        self.empty_episodes = int((counts == 0).sum())

    def __len__(self) -> int:
        return int(self._ends[-1])

    def places(self, indices: NDArray[np.integer]) -> Places:
        """Returns where the windows ``indices [B]`` stand; they are in the order of episodes and steps."""
        episode = self._ends.searchsorted(indices, side="right")
        column = episode[:, None]
        present = indices[:, None] + self._shift.take(column)
        return Places(present, self._first.take(column), self._last.take(column), episode)
