"""Work on the chunks of an array in threads: codecs and file reads release the interpreter's lock."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")
_MOST = min(8, os.cpu_count() or 1)
_FROM_BYTES = 4 << 20  # below this, handing out work costs more than it saves
_count = _MOST


@contextmanager
def at_most(count: int) -> Iterator[None]:
    """Lets all stores of the process use at most ``count`` threads, the caller's too, in a ``with`` block."""
    global _count
    before, _count = _count, max(1, min(count, _MOST))
    try:
        yield
    finally:
        _count = before


def for_each(function: Callable[[_In], _Out], items: Iterable[_In], num_bytes: int) -> list[_Out]:
    """Maps ``function`` over ``items``, in threads where the work is large.

    Args:
        function: safe to be called from several threads.
        items: what it is called with.
        num_bytes: decoded bytes of all items together.
    """
    if num_bytes < _FROM_BYTES or _count == 1:
        return [function(item) for item in items]
    items, count = list(items), _count
    shares = [items[first::count] for first in range(count)]  # few tasks: each costs some 20 us

    def work(share: Sequence[_In]) -> list[_Out]:
        return [function(item) for item in share]

    others = [_pool(os.getpid()).submit(work, share) for share in shares[1:]]
    results: list[Any] = [None] * len(items)
    # The caller takes a share too. With a thread more than there are cores, two of them share one core for
    # milliseconds, until the system moves one: as long as the whole work takes.
    results[::count] = work(shares[0])
    for first, other in enumerate(others, start=1):
        results[first::count] = other.result()
    return results


@functools.cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Returns the threads of a process beside the caller's; a forked process needs its own."""
    return ThreadPoolExecutor(_MOST - 1, "robopolicy-store")
