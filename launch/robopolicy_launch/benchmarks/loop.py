"""Lateness of a control loop's ticks, beside the same loop that asks nothing of the operating system.

Both loops run at the same time, each in a process of its own: alone, while a policy samples on all cores but
one, and while one samples on every core.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Any

from robopolicy_drivers.realtime.process import DeviceProcess
from robopolicy_drivers.realtime.statistics import LatenessSummary
from robopolicy_launch.benchmarks import Row

PLAIN = "asking nothing"
_PROCESSES = "robopolicy_launch.benchmarks._processes"


def run(*, channels: Sequence[int] = (64, 128, 256), seconds: float = 20.0) -> Iterator[Row]:
    """Measures each load.

    Args:
        channels: of the policy's U-Net.
        seconds: to spend on each load.
    """
    cores = sorted(os.sched_getaffinity(0))
    ours, plain = _lateness(100.0, "slack", [], channels, seconds)
    yield Row("loop_100hz_slack_p99", 1e3 * ours.p99_ms, 1e3 * plain.p99_ms, "us", PLAIN)
    for name, loads in (("policy", [cores[:-1] or cores]), ("busy", [[core] for core in cores])):
        ours, plain = _lateness(500.0, "fifo", loads, channels, seconds)
        yield Row(f"loop_500hz_fifo_{name}_p99", 1e3 * ours.p99_ms, 1e3 * plain.p99_ms, "us", PLAIN)
        yield Row(f"loop_500hz_fifo_{name}_max", 1e3 * ours.max_ms, 1e3 * plain.max_ms, "us", PLAIN)
        yield Row(f"loop_500hz_fifo_{name}_met", _met(ours), _met(plain), "share", PLAIN)


def _met(summary: LatenessSummary) -> float:
    """Returns the share of deadlines that were served by a tick of their own."""
    return 1.0 - summary.skipped / summary.ticks


def _lateness(
    rate_hz: float, asks_for: str, loads: Sequence[Sequence[int]], channels: Sequence[int], seconds: float
) -> tuple[LatenessSummary, LatenessSummary]:
    """Returns the lateness of our loop and of the plain one, while a policy samples on each list of cores."""
    with ExitStack() as stack:
        for cores in loads:
            stack.enter_context(closing(_start("sample", {"channels": channels, "cores": cores})))
        loops = [
            stack.enter_context(closing(_start("beat", {"rate_hz": rate_hz, "asks_for": what})))
            for what in (asks_for, "nothing")
        ]
        time.sleep(0.2)  # both warm up
        before = [loop.lateness() for loop in loops]
        time.sleep(seconds)
        ours, plain = (loop.lateness().since(earlier) for loop, earlier in zip(loops, before, strict=True))
    return ours, plain


def _start(target: str, arguments: dict[str, Any]) -> DeviceProcess:
    process = DeviceProcess(f"{_PROCESSES}:{target}", arguments, name=target, heartbeat_timeout_s=10.0)
    process.start()
    return process
