"""Times two things side by side, so that a busy or slowing machine does not favour one of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

MOST_ROUNDS = 400


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Sets the number of torch's threads for the duration of a ``with`` block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def repeated(call: Callable[[], Any], count: int) -> Callable[[], None]:
    """Returns a function that calls ``count`` times: for calls that are short against a look at the clock."""

    def repeat() -> None:
        for _ in range(count):
            call()

    return repeat


def side_by_side(
    ours: Callable[[], Any], reference: Callable[[], Any], *, seconds: float, least: int = 3
) -> tuple[float, float]:
    """Returns the median times [ms] of ``ours`` and ``reference``, called in turn.

    On one thread the time is the processor's, which other processes disturb little; on several it is the
    clock's.

    Args:
        ours: what is measured.
        reference: what it is compared with.
        seconds: to spend on both, after one call of each to warm up.
        least: rounds to take however long they last.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    taken: tuple[list[float], list[float]] = ([], [])
    ours(), reference()
    end = time.perf_counter() + seconds
    while len(taken[0]) < least or (time.perf_counter() < end and len(taken[0]) < MOST_ROUNDS):
        for call, times in zip((ours, reference), taken, strict=True):
            started = clock()
            call()
            times.append(clock() - started)
    mine, other = (statistics.median(times) * 1e3 for times in taken)
    return mine, other
