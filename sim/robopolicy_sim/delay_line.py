"""A delay: what goes in comes out in the same order, as much later as it takes on a real robot."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from robopolicy_datasets.clock import seconds_to_ns

Item = TypeVar("Item")


class DelayLine(Generic[Item]):
    """See the module text. A loop looks at it, so a delay is rounded to the loop's ticks.

    Args:
        delay_s: [s].
        period_s: of the loop [s].
    """

    def __init__(self, delay_s: float, period_s: float) -> None:
        self._delay_ns = seconds_to_ns(delay_s - 0.5 * period_s)
        self._waiting: deque[tuple[int, Item]] = deque()

    def put(self, item: Item, time_ns: int) -> None:
        """Takes something in at a time [ns, monotonic]."""
        self._waiting.append((time_ns + self._delay_ns, item))

    def due(self, now_ns: int) -> list[Item]:
        """Returns what comes out until now [ns, monotonic], oldest first."""
        out = []
        while self._waiting and self._waiting[0][0] <= now_ns:
            out.append(self._waiting.popleft()[1])
        return out

    def clear(self) -> None:
        """Forgets what is on its way."""
        self._waiting.clear()
