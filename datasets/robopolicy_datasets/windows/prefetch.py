"""The next batches are gathered while the present one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

_T = TypeVar("_T")


def prefetch(batches: Iterator[_T], *, depth: int = 2) -> Generator[_T, None, None]:
    """Yields what ``batches`` yields, in the same order, with a thread that works ahead.

    It pays where gathering waits for the disk or decodes images, and not for arrays in memory. An error of
    ``batches`` is raised here, in its place. The thread ends with the last batch, or when the returned
    generator is closed.

    Args:
        batches: used by the thread alone from now on.
        depth: how many batches to work ahead; at least 1.
    """
    thread = ThreadPoolExecutor(1, "robopolicy-prefetch")

    def take_one() -> list[_T]:
        return list(islice(batches, 1))  # empty after the last one

    try:
        waiting = deque(thread.submit(take_one) for _ in range(depth))
        while taken := waiting.popleft().result():
            waiting.append(thread.submit(take_one))
            yield taken[0]
    finally:
        thread.shutdown(cancel_futures=True)
