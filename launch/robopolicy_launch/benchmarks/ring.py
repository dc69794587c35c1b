"""The shared-memory ring between two processes: writing, reading the newest record, and being woken by it.

Reading and writing beside the bare copy of the bytes; being woken beside a look every 100 us. A record is
256 bytes at 500 Hz, as a robot's state, or an image of 224 x 224 pixels at 100 Hz.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.spec import Feature
from robopolicy_drivers.realtime.memory import SharedMemory
from robopolicy_drivers.realtime.process import DeviceProcess
from robopolicy_drivers.realtime.ring import Record, Ring
from robopolicy_drivers.realtime.scheduling import set_timer_slack
from robopolicy_launch.benchmarks import Row
from robopolicy_launch.benchmarks._timing import repeated, side_by_side, threads

RECORDS = {
    "256B": (Feature("state", (31,), "float64"), 500.0),  # and 8 bytes of time
    "150kB": (Feature("camera0_rgb", (224, 224, 3), "uint8", kind="rgb"), 100.0),
}
SLOTS, TIMEOUT_S = 16, 5.0
_BLOCK = 25  # records between two turns
_CALLS = 50  # between two looks at the clock


def run(*, seconds: float = 4.0) -> Iterator[Row]:
    """Measures records of each size.

    Args:
        seconds: to spend on each row.
    """
    set_timer_slack()
    for size, (feature, rate_hz) in RECORDS.items():
        yield from _copies(size, feature, seconds)
        ring = Ring([feature], SLOTS)
        arguments = {"rate_hz": rate_hz}
        process = DeviceProcess(
            "robopolicy_launch.benchmarks._processes:publish",
            arguments,
            name="publisher",
            rings={"ring": ring},
            heartbeat_timeout_s=TIMEOUT_S,
        )
        with closing(process):
            process.start()
            ours, polling = _wake_ups(ring, seconds)
        for name, figure in (
            ("p50", partial(_percentile, 50)),
            ("p99", partial(_percentile, 99)),
            ("cpu", _cpu),
        ):
            yield Row(f"ring_wake_{size}_{name}", figure(ours), figure(polling), "us", "a look every 100 us")


def _copies(size: str, feature: Feature, seconds: float) -> Iterator[Row]:
    """Measures writing and reading in one process, on one core's caches."""
    ring, value = Ring([feature], SLOTS), np.ones(feature.shape, feature.dtype)
    bare = SharedMemory(value.nbytes).array(value.dtype, value.shape)
    with threads(1):
        for name, ours, reference in (
            ("write", partial(ring.write, 0, {feature.key: value}), partial(np.copyto, bare, value)),
            ("newest", ring.newest, bare.copy),
        ):
            times = side_by_side(repeated(ours, _CALLS), repeated(reference, _CALLS), seconds=seconds)
            mine, other = (1e3 * milliseconds / _CALLS for milliseconds in times)
            yield Row(f"ring_{name}_{size}", mine, other, "us", "a copy")


@dataclass
class _Waits:
    """Delays [ns] from the begin of a write until a reader holds the record; the reader's processor time."""

    delays_ns: list[int]
    processor_ns: int = 0


def _wake_ups(ring: Ring, seconds: float) -> tuple[_Waits, _Waits]:
    """Takes records in two ways, in turn."""
    waits = (_Waits([]), _Waits([]))
    end = time.monotonic() + seconds
    while not waits[1].delays_ns or time.monotonic() < end:
        for await_newer, taken in zip((_asleep, _looking), waits, strict=True):
            number = ring.latest
            begun = time.thread_time_ns()
            for _ in range(_BLOCK):
                record = await_newer(ring, number)
                taken.delays_ns.append(now_ns() - record.time_ns)
                number = record.number
            taken.processor_ns += time.thread_time_ns() - begun
    return waits


def _asleep(ring: Ring, number: int) -> Record:
    return _there(ring.wait_newer(number, TIMEOUT_S))


def _looking(ring: Ring, number: int) -> Record:
    begun = now_ns()
    while ring.latest <= number and now_ns() - begun < TIMEOUT_S * 1e9:
        time.sleep(100e-6)
    return _there(ring.newest())


def _there(record: Record | None) -> Record:
    if record is None:
        raise DeviceError(
            f"The publisher has written nothing for {TIMEOUT_S:g} s; is the machine overloaded?"
        )
    return record


def _percentile(percent: float, waits: _Waits) -> float:
    return float(np.percentile(waits.delays_ns, percent)) / 1e3


def _cpu(waits: _Waits) -> float:
    """Returns the reader's processor time per record [us]."""
    return waits.processor_ns / len(waits.delays_ns) / 1e3
