"""Time: int64 nanoseconds of one monotonic clock, with a wall-clock anchor for people."""

from __future__ import annotations

import time

NANOSECONDS = 1_000_000_000


def now_ns() -> int:
    """Returns the time in nanoseconds of the monotonic clock, shared by all processes of a machine."""
    return time.monotonic_ns()


def seconds_to_ns(seconds: float) -> int:
    """Converts seconds to integer nanoseconds."""
    return round(seconds * NANOSECONDS)


def ns_to_seconds(nanoseconds: int) -> float:
    """Converts integer nanoseconds to seconds."""
    return nanoseconds / NANOSECONDS


def wall_anchor_ns() -> int:
    """Returns the wall-clock time [ns since 1970] of monotonic zero: ``wall = monotonic + anchor``."""
    before = time.monotonic_ns()
    wall = time.time_ns()
    after = time.monotonic_ns()
    return wall - (before + after) // 2
