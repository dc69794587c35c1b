"""From samples of several rates to steps of one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import NANOSECONDS, seconds_to_ns


class StepAligner:
    """Makes steps at a fixed rate: each shows, of every key, the newest sample at or before its time.

    That is what a policy would have seen at that time. The first step is at the first time at which every key
    has a sample. A step is made once no earlier sample can come any more, which is when each key has brought
    a sample that is not before it, or when ``patience_s`` has passed: a sensor that has stopped is shown with
    its last sample.

    Args:
        keys: what a step holds.
        rate_hz: steps per second.
        patience_s: how long to wait for late samples [s]. Samples of so much time are held in memory.
    """

    def __init__(self, keys: Sequence[str], *, rate_hz: float, patience_s: float) -> None:
        self._samples: dict[str, deque[tuple[int, NDArray]]] = {key: deque() for key in keys}
        self._period_ns = NANOSECONDS / rate_hz
        self._patience_ns = seconds_to_ns(patience_s)
        self._first_ns: int | None = None
        self._made = 0

    def put(self, key: str, time_ns: NDArray[np.int64], values: NDArray) -> None:
        """Takes samples ``[n, *shape]`` of a key, later than those before."""
        self._samples[key].extend(zip(time_ns.tolist(), values, strict=True))

    def steps(self, now_ns: int) -> Iterator[tuple[int, dict[str, NDArray]]]:
        """Yields the time and the values of each step that can be made now."""
        queues = self._samples.values()
        if not all(queues):
            for queue in queues:  # what is too old for the first step
                _forget_before(queue, now_ns - self._patience_ns)
            return
        if self._first_ns is None:
            self._first_ns = max(queue[0][0] for queue in queues)
        while True:
            time_ns = self._first_ns + round(self._made * self._period_ns)
            complete = all(queue[-1][0] >= time_ns for queue in queues)
            if not complete and now_ns < time_ns + self._patience_ns:
                return
            for queue in queues:
                _forget_before(queue, time_ns)
            self._made += 1
            yield time_ns, {key: queue[0][1] for key, queue in self._samples.items()}


def _forget_before(queue: deque[tuple[int, NDArray]], time_ns: int) -> None:
    """Drops the samples before the newest one at or before ``time_ns``."""
    while len(queue) > 1 and queue[1][0] <= time_ns:
        queue.popleft()
