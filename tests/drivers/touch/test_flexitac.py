"""FlexiTac: our reader and flexitac 0.3.1's on the same emulator, in a process of its own."""

from __future__ import annotations

import fcntl
import os
import sys
import termios
import time
import tty

import numpy as np
import pytest
from device_targets import wait_until
from hypothesis import given
from hypothesis import strategies as st
from sensor_faults import noticed

from robopolicy_datasets.errors import DeviceError, MissingExtraError
from robopolicy_drivers.conformance import check_sensor
from robopolicy_drivers.touch.configs import FlexiTacConfig
from robopolicy_drivers.touch.flexitac import FlexiTac, FlexiTacSource
from robopolicy_drivers.touch.taxel_frames import MARKER, FrameParser

pytestmark = pytest.mark.realtime

KEY = FlexiTacConfig.key
SIZE = 12  # bytes of the frames of the tests of framing


@pytest.fixture
def board(emulator):
    """An emulator, and the config that reaches it."""
    started = emulator("flexitac_board", 100)
    started.config = FlexiTacConfig(port=started.told[0])
    return started


# --- framing ------------------------------------------------------------------------------------------------

FRAME = st.binary(min_size=SIZE, max_size=SIZE)
PLAIN = st.lists(st.integers(0, 160), min_size=SIZE, max_size=SIZE).map(bytes)  # looks like no marker


def fed(data, cuts=()):
    """The frames of a stream that comes in pieces."""
    parser, frames, begin = FrameParser(SIZE), [], 0
    for end in (*sorted(cuts), len(data)):
        frames += parser.feed(data[begin:end])
        begin = max(begin, end)
    return frames, parser


@given(frames=st.lists(FRAME, min_size=1, max_size=6), cuts=st.lists(st.integers(0, 90)))
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(frames, cuts):
    stream = b"".join(MARKER + frame for frame in frames) + MARKER
    found, parser = fed(stream, [min(cut, len(stream)) for cut in cuts])
    assert found == frames
    assert parser.skipped == 0
    assert parser.waiting == len(MARKER)


@given(garbage=st.binary(max_size=60), frames=st.lists(PLAIN, min_size=4, max_size=8))
def test_after_garbage_the_frames_are_found_again(garbage, frames):
    """At most the frames that garbage hides by a marker of its own are lost, and none is made up."""
    stream = garbage + b"".join(MARKER + frame for frame in frames) + MARKER
    found, _ = fed(stream)
    assert found[-3:] == frames[-3:]
    assert len(found) <= len(frames) + len(garbage) // (SIZE + 2)


@given(frames=st.lists(PLAIN, min_size=3, max_size=6), lost=st.integers(1, SIZE), at=st.integers(0, 1000))
def test_a_frame_that_lost_bytes_is_not_taken(frames, lost, at):
    hit = at % (len(frames) - 1)
    parts = [MARKER + frame for frame in frames]
    parts[hit] = parts[hit][: len(parts[hit]) - lost]
    found, parser = fed(b"".join(parts) + MARKER)
    assert found == frames[:hit] + frames[hit + 1 :]
    assert parser.skipped == SIZE + 2 - lost


@given(st.lists(FRAME, min_size=1, max_size=4))
def test_no_more_is_asked_for_than_the_next_frame_lacks(frames):
    parser = FrameParser(SIZE)
    stream = b"".join(MARKER + frame for frame in frames) + MARKER
    found = []
    while stream:
        count = parser.wanted
        found += parser.feed(stream[:count])
        stream = stream[count:]
    assert found == frames


# --- beside the vendor's reader -----------------------------------------------------------------------------


def test_the_vendors_reader_sees_the_same_frames(board):
    flexitac = pytest.importorskip("flexitac", reason="the package flexitac is not installed")
    with flexitac.FlexiTacSensor(board.config.port, baseline=0.0) as theirs:
        sensed = [theirs.read().raw for _ in range(5)]
    with FlexiTac(board.config) as sensor:
        assert sensor.ring.wait_newer(sensor.ring.latest + 4, 5.0)
        ours = [record.data[KEY] for record in sensor.ring.history(5)]
    for frame in (*sensed, *ours):  # of frame n it is (n + i) % 160 everywhere
        np.testing.assert_array_equal(frame.ravel(), (frame.flat[0] + np.arange(frame.size)) % 160)


def test_every_frame_arrives_and_the_vendors_reader_beside(board):
    with FlexiTac(board.config) as sensor:
        begun, first = time.monotonic(), sensor.ring.latest
        time.sleep(1.5)
        rate = (sensor.ring.latest - first) / (time.monotonic() - begun)
        records = sensor.ring.history(140)
    numbers = np.array([record.data[KEY][0, 0] for record in records])
    gaps = np.diff([record.time_ns for record in records]) / 1e6
    p50, p99 = np.percentile(gaps, [50, 99])
    print(f"FlexiTac: {rate:.1f} Hz of 100; between frames p50 {p50:.2f}, p99 {p99:.2f} ms")
    assert np.all(np.diff(numbers) % 160 == 1)  # none is missing
    flexitac = pytest.importorskip("flexitac", reason="the package flexitac is not installed")
    with flexitac.FlexiTacSensor(board.config.port, baseline=0.0) as theirs:
        for name in ("read", "read_latest"):
            begun = time.monotonic()
            for _ in range(30):
                getattr(theirs, name)()
            print(f"flexitac 0.3.1, {name}(): {30 / (time.monotonic() - begun):.1f} Hz")


def test_frames_that_came_together_are_as_far_apart_as_on_the_wire():
    """A program that was held up reads several at once."""
    master, slave = os.openpty()
    tty.setraw(slave)
    source = FlexiTacSource(FlexiTacConfig(port=os.ttyname(slave), rows=2, columns=4))
    source.open()
    os.write(master, b"".join(MARKER + bytes([number] * 8) for number in range(3)) + MARKER)
    assert wait_until(lambda: fcntl.ioctl(slave, termios.FIONREAD, bytes(4))[0] == 32)
    (first, _), (second, _), (third, sample) = (source.read() for _ in range(3))
    assert second - first == third - second == 10 * 10 * 500  # bytes of a frame, bits of a byte, ns of a bit
    assert np.all(sample[KEY] == 2)
    source.close()
    os.close(slave)
    os.close(master)


# --- the driver ---------------------------------------------------------------------------------------------


def test_it_conforms(board):
    assert check_sensor(lambda: FlexiTac(board.config))


def test_zero_takes_the_present_load_for_none(board):
    board.tell("press 20")
    with FlexiTac(board.config) as sensor:
        with pytest.raises(DeviceError, match="of 30 frames"):
            sensor.zero()
        assert wait_until(lambda: sensor.ring.latest > 35)
        assert np.all(sensor.read()[1][KEY] == 20)
        sensor.zero()
        board.tell("press 50")
        assert wait_until(lambda: np.all(sensor.read()[1][KEY] == 30))


def test_noise_on_the_line_costs_no_more_than_the_frames_it_hits(board):
    with FlexiTac(board.config) as sensor:
        for line in ("noise 500", "drop 7"):
            before = sensor.ring.latest
            board.tell(line)
            assert sensor.ring.wait_newer(before + 30, 5.0)
            for record in sensor.ring.history(30):
                frame = record.data[KEY]
                np.testing.assert_array_equal(frame.ravel(), (frame.flat[0] + np.arange(frame.size)) % 160)


# --- faults -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("cut", "Plug in its cable"),
        ("silent", "sends nothing any more"),
        ("rows 8", "no frames of 12 x 32 taxels at 2000000 baud"),
    ],
)
def test_a_fault_ends_the_reading(board, reaction, fault, words):
    with FlexiTac(board.config) as sensor:
        board.tell(fault)
        reaction(f"'{fault}'", noticed(sensor, words))


def test_a_board_that_dies_is_noticed(board, reaction):
    with FlexiTac(board.config) as sensor:
        board.kill()
        reaction("a killed board", noticed(sensor, "Plug in its cable"))


def test_a_missing_port_is_refused():
    with pytest.raises(DeviceError, match=r"no serial port '/dev/ttyUSB77'.*Check the cable"):
        FlexiTacSource(FlexiTacConfig(port="/dev/ttyUSB77")).open()


def test_a_second_reader_is_refused(board):
    with FlexiTac(board.config), pytest.raises(DeviceError, match=r"in use by process \d+"):
        FlexiTacSource(board.config).open()


def test_without_pyserial_the_extra_is_named(board, monkeypatch):
    monkeypatch.setitem(sys.modules, "serial", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'robopolicy\[serial\]'"):
        FlexiTacSource(board.config).open()
