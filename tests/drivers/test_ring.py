"""The shared-memory ring: order, history, no torn record, nothing left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from device_targets import HAMMER_FEATURES as FEATURES
from device_targets import alive, fails, wait_until
from hypothesis import given, settings
from hypothesis import strategies as st

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import DeviceError, SpecError
from robopolicy_drivers.realtime import futex
from robopolicy_drivers.realtime.process import DeviceProcess
from robopolicy_drivers.realtime.ring import Ring

pytestmark = pytest.mark.realtime

HERE = str(Path(__file__).parent)


def write(ring: Ring, value: int) -> int:
    return ring.write(
        value, {"counter": np.int64(value), "vector": np.full(300, value), "flag": np.array([True])}
    )


def start_counter(ring: Ring) -> DeviceProcess:
    writer = DeviceProcess("device_targets:count", {"rate_hz": 500.0}, name="writer", rings={"ring": ring})
    writer.start()
    return writer


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


def test_an_incomplete_record_is_refused():
    ring = Ring(FEATURES, 4)
    with pytest.raises(SpecError, match="'flag' was not written; given: counter, vector"):
        ring.write(0, {"counter": np.int64(0), "vector": np.zeros(300)})
    assert ring.newest() is None
    assert write(ring, 1) == 1


def test_a_reader_that_waits_is_given_the_newest_or_nothing():
    ring = Ring(FEATURES, 4)
    begun = now_ns()
    assert ring.wait_newer(0, 0.05) is None
    assert now_ns() - begun >= 50_000_000
    write(ring, 1)
    write(ring, 2)
    assert ring.wait_newer(0, 0.0).number == 2
    assert ring.wait_newer(2, 0.0) is None


@pytest.mark.parametrize("polls", [False, True])
def test_all_waiting_readers_are_woken(polls, monkeypatch):
    if polls:
        monkeypatch.setattr(futex, "_NUMBER", None)
    ring, found = Ring(FEATURES, 8), []
    readers = [threading.Thread(target=lambda: found.append(ring.wait_newer(0, 20.0))) for _ in range(5)]
    for reader in readers:
        reader.start()
    time.sleep(0.1)
    assert not found
    write(ring, 7)
    for reader in readers:
        reader.join(20.0)
    assert [record.time_ns for record in found] == [7] * 5


def test_a_waiting_reader_sleeps_and_misses_nothing(monkeypatch):
    sleeps, wait = [], futex.wait
    monkeypatch.setattr(futex, "wait", lambda *arguments: sleeps.append(wait(*arguments)))
    ring = Ring(FEATURES, 64)
    with closing(start_counter(ring)):
        number = ring.latest
        for count in range(1, 301):
            record = ring.wait_newer(number, 10.0)
            assert record.number > number
            number = record.number
            assert len(sleeps) <= 2 * count, "it looks again and again instead of sleeping"


def test_a_killed_writer_leaves_its_readers_waiting_in_vain():
    ring = Ring(FEATURES, 64)
    writer = start_counter(ring)
    assert ring.wait_newer(0, 20.0)
    os.kill(writer.pid, signal.SIGKILL)
    assert wait_until(lambda: not alive(writer.pid))
    last = ring.newest()
    age_s = last.age_s()
    assert ring.wait_newer(last.number, 0.1) is None
    assert last.age_s() >= age_s + 0.1
    with pytest.raises(DeviceError, match="SIGKILL"):
        writer.check()


@pytest.mark.parametrize("count", [100_000, pytest.param(10_000_000, marks=pytest.mark.soak)])
def test_no_torn_or_stale_record_while_the_writer_is_stopped_and_killed(count):
    """The writer overtakes the reader all the time: the ring has four slots."""
    ring = Ring(FEATURES, 4)
    with closing(DeviceProcess("device_targets:hammer", {}, name="writer", rings={"ring": ring})) as writer:
        writer.start()
        last = 0
        for reads in range(1, count + 1):
            published = ring.latest
            record = ring.newest()
            assert (record.data["vector"] == record.number).all(), "torn"
            assert record.time_ns == record.data["counter"] == record.number, "torn"
            assert record.number >= max(published, last), "stale"
            last = record.number
            if reads % 2_000 == 0:
                os.kill(writer.pid, signal.SIGCONT if reads % 4_000 == 0 else signal.SIGSTOP)
            if reads % 25_000 == 0:
                os.kill(writer.pid, signal.SIGKILL)
                assert wait_until(lambda: fails(writer))
                killed_at = ring.newest().number
                writer.start()
                assert ring.latest > killed_at, "the numbers did not go on"
    assert last > 100


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
