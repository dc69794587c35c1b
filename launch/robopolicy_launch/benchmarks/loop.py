"""Lateness of a control loop's ticks, beside the same loop that asks nothing of the operating system.

Both loops run at the same time, each in a process of its own: alone, while a policy samples on all cores but
one, and while one samples on every core. Before them the trajectory of a pose and a gripper, beside a linear
one of SciPy's ``interp1d`` and ``Slerp`` through the same waypoints.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Any

import numpy as np
from scipy.interpolate import interp1d
from scipy.spatial.transform import Rotation, Slerp

from robopolicy_datasets.clock import NANOSECONDS
from robopolicy_drivers.realtime.interpolator import WaypointInterpolator, WaypointPart
from robopolicy_drivers.realtime.process import DeviceProcess
from robopolicy_drivers.realtime.statistics import LatenessSummary
from robopolicy_launch.benchmarks import Row
from robopolicy_launch.benchmarks._timing import repeated, side_by_side, threads

PLAIN = "asking nothing"
_PERIOD_NS = NANOSECONDS // 10  # between waypoints
_CALLS = 50  # between two looks at the clock
_PROCESSES = "robopolicy_launch.benchmarks._processes"


def run(*, channels: Sequence[int] = (64, 128, 256), seconds: float = 20.0) -> Iterator[Row]:
    """Measures each load.

    Args:
        channels: of the policy's U-Net.
        seconds: to spend on each load.
    """
    yield from _trajectory(0.1 * seconds)
    cores = sorted(os.sched_getaffinity(0))
    ours, plain = _lateness(100.0, "slack", [], channels, seconds)
    yield Row("loop_100hz_slack_p99", 1e3 * ours.p99_ms, 1e3 * plain.p99_ms, "us", PLAIN)
    for name, loads in (("policy", [cores[:-1] or cores]), ("busy", [[core] for core in cores])):
        ours, plain = _lateness(500.0, "fifo", loads, channels, seconds)
        yield Row(f"loop_500hz_fifo_{name}_p99", 1e3 * ours.p99_ms, 1e3 * plain.p99_ms, "us", PLAIN)
        yield Row(f"loop_500hz_fifo_{name}_max", 1e3 * ours.max_ms, 1e3 * plain.max_ms, "us", PLAIN)
        yield Row(f"loop_500hz_fifo_{name}_met", _met(ours), _met(plain), "share", PLAIN)


def _trajectory(seconds: float) -> Iterator[Row]:
    """Measures a pose with a gripper: a state, a plan for a new target, one that passes another waypoint."""
    times_ns = [0, *(_PERIOD_NS * np.arange(1, 3)).tolist()]
    points = np.array([0.4, 0.0, 0.3, 3.0, 0.0, 0.0, 0.05]) + 0.001 * np.arange(3)[:, None]
    parts = (WaypointPart(3, 1.5, 3.0), WaypointPart(3, 6.0, 15.0, "rotation"), WaypointPart(1))
    ours = WaypointInterpolator(points[0], parts)
    now_ns = _PERIOD_NS // 3

    def reference_plan() -> tuple[interp1d, Slerp]:
        rotations = Rotation.from_rotvec(points[:, 3:6])
        return interp1d(times_ns, points, axis=0, assume_sorted=True), Slerp(times_ns, rotations)

    def replace_last() -> None:
        ours.schedule(points[1], times_ns[1], now_ns)

    def append() -> None:
        ours.schedule(points[2], times_ns[2], now_ns)

    replace_last()
    append()
    places, rotations = reference_plan()
    cases: list[tuple[str, Callable[[], Any], Callable[[], Any]]] = [
        ("evaluate", lambda: ours.evaluate(now_ns), lambda: (places(now_ns), rotations(now_ns).as_rotvec())),
        ("append", append, reference_plan),
        ("replan", replace_last, reference_plan),
    ]
    for name, mine, reference in cases:
        with threads(1):
            taken = side_by_side(repeated(mine, _CALLS), repeated(reference, _CALLS), seconds=seconds)
        took, other = (1e3 / _CALLS * milliseconds for milliseconds in taken)
        yield Row(f"trajectory_{name}", took, other, "us", "SciPy, linear")


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
