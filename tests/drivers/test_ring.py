"""The shared-memory ring: order, history, no torn record, nothing left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from device_targets import HAMMER_FEATURES as FEATURES
from device_targets import alive, wait_until
from hypothesis import given, settings
from hypothesis import strategies as st

from robopolicy_datasets.errors import SpecError
from robopolicy_drivers.realtime.process import DeviceProcess
from robopolicy_drivers.realtime.ring import Ring

HERE = str(Path(__file__).parent)


def write(ring: Ring, value: int) -> int:
    return ring.write(
        value, {"counter": np.int64(value), "vector": np.full(300, value), "flag": np.array([True])}
    )


def test_a_new_ring_is_empty():
    ring = Ring(FEATURES, 4)
    assert ring.newest() is None
    assert ring.history(3) == []
    assert ring.nearest(5) is None


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 9), st.integers(1, 30), st.integers(0, 40))
def test_history_is_the_newest_records_in_order(slots, written, wanted):
    ring = Ring(FEATURES, slots)
    for value in range(1, written + 1):
        assert write(ring, value) == value
    newest = ring.newest()
    assert newest.number == newest.time_ns == written
    assert newest.data["vector"].dtype == np.float64
    assert (newest.data["vector"] == written).all()
    numbers = [record.number for record in ring.history(wanted)]
    kept = min(wanted, written, max(slots - 1, 1))
    assert numbers == list(range(written - kept + 1, written + 1))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=12), st.integers(-10, 1010))
def test_nearest_is_the_nearest_in_time(times, wanted):
    ring = Ring(FEATURES, 16)
    for time_ns in sorted(times):
        write(ring, time_ns)
    assert abs(ring.nearest(wanted).time_ns - wanted) == min(abs(time_ns - wanted) for time_ns in times)


def test_records_are_copies():
    ring = Ring(FEATURES, 2)
    write(ring, 1)
    first = ring.newest()
    write(ring, 2)
    write(ring, 3)
    assert (first.data["vector"] == 1).all()


def test_a_damaged_record_is_not_returned():
    ring = Ring(FEATURES, 4)
    write(ring, 1)
    write(ring, 2)
    ring._fields[2 % 4]["vector"][7] = -1.0
    assert ring.read(2) is None
    assert ring.read(1).number == 1


def test_wrong_shapes_are_refused():
    ring = Ring(FEATURES, 4)
    with pytest.raises(SpecError, match="vector"):
        ring.write(0, {"counter": np.int64(0), "vector": np.zeros(3), "flag": np.array([True])})
    with pytest.raises(SpecError, match="at least 2"):
        Ring(FEATURES, 1)


def test_no_torn_record_in_1e5_reads_while_the_writer_is_stopped_and_killed():
    ring = Ring(FEATURES, 4)
    writer = DeviceProcess(
        "device_targets:hammer", {}, name="writer", rings={"ring": ring}, heartbeat_timeout_s=60
    )
    writer.start()
    reads, last, stopped = 0, 0, False
    while reads < 100_000:
        record = ring.newest()
        assert (record.data["vector"] == record.data["counter"]).all()
        assert record.number >= last
        assert record.time_ns == record.data["counter"] == record.number
        last = record.number
        reads += 1
        if reads % 5_000 == 0:
            os.kill(writer.pid, signal.SIGCONT if stopped else signal.SIGSTOP)
            stopped = not stopped
    os.kill(writer.pid, signal.SIGKILL)
    killed_at = ring.newest()
    assert (killed_at.data["vector"] == killed_at.number).all()
    assert last > 100
    writer.close()


def test_nothing_is_left_behind_when_the_owner_is_killed():
    before = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    code = (
        "import device_targets, time\n"
        "ring, process = device_targets.start_hammer()\n"
        "print(process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code], cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    child = int(owner.stdout.readline())
    owner.kill()
    _, noise = owner.communicate()
    assert noise == ""
    assert wait_until(lambda: not alive(child))
    after = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    assert after <= before
