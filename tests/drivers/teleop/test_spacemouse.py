"""The SpaceMouse's reports, byte by byte, and the device's faults.

The device is an own emulator of Linux's hidraw; nothing here has seen a real SpaceMouse.
"""

import contextlib
import os
import signal
import struct
import subprocess
import sys

import numpy as np
import pytest
from device_targets import wait_until
from emulators.hid_puck import KEYBOARD, HidPuck
from hypothesis import given
from hypothesis import strategies as st

from robopolicy_datasets.errors import DeviceError, UnknownNameError
from robopolicy_drivers.conformance import check_sensor
from robopolicy_drivers.teleop import spacemouse
from robopolicy_drivers.teleop.configs import Button, SpaceMouseConfig
from robopolicy_drivers.teleop.hidraw import first_usage, hid_devices
from robopolicy_drivers.teleop.spacemouse import PressLengths, PuckState, SpaceMouseSource
from robopolicy_drivers.teleop.steered import SteeringDevice

pytestmark = pytest.mark.realtime

int16 = st.integers(-350, 350)
three = st.tuples(int16, int16, int16)


@pytest.fixture
def puck(tmp_path):
    puck = HidPuck(tmp_path)
    yield puck
    puck.unplug()


def updated(*reports):
    state = PuckState()
    for report in reports:
        state.update(report)
    return state


@given(three, three)
def test_models_with_one_report_and_with_two_mean_the_same(moved, turned):
    one = updated(b"\x01" + struct.pack("<6h", *moved, *turned))
    two = updated(b"\x01" + struct.pack("<3h", *moved), b"\x02" + struct.pack("<3h", *turned))
    np.testing.assert_array_equal(one.twist, two.twist)
    np.testing.assert_allclose(one.axes * 350.0, [*moved, *turned])


def test_published_reports_of_a_spacenavigator():
    """As captured in https://andunhh.github.io/spacemouse: a turn about the second axis, then buttons."""
    state = updated(bytes.fromhex("0200 00e2 ff00 00"))
    np.testing.assert_allclose(state.axes, [0, 0, 0, 0, -30 / 350, 0])
    assert [updated(bytes.fromhex(text)).buttons for text in ("030100", "030200", "030300", "030000")] == [
        *range(1, 4),
        0,
    ]


def test_axes_are_turned_to_the_person():
    """The device has x to the right, y to the person and z down; the person has away, left and up."""
    pushed_away = updated(b"\x01" + struct.pack("<6h", 0, -350, 0, 0, 0, 0)).twist
    pushed_left = updated(b"\x01" + struct.pack("<6h", -350, 0, 0, 0, 0, 0)).twist
    pulled_up_and_twisted = updated(b"\x01" + struct.pack("<6h", 0, 0, -350, 0, 0, -350)).twist
    np.testing.assert_array_equal(pushed_away, [1, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(pushed_left, [0, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(pulled_up_and_twisted, [0, 0, 1, 0, 0, 1])


@given(st.binary(max_size=64))
def test_any_bytes_are_taken_or_refused(report):
    state = PuckState()
    wrong = len(report) > 0 and (
        (report[0] == 1 and len(report) != 7 and len(report) < 13) or (report[0] == 2 and len(report) != 7)
    )
    with pytest.raises(DeviceError, match="not supported") if wrong else contextlib.nullcontext():
        state.update(report)
    assert (np.abs(state.twist) <= 1.0).all()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1_500_000_000)), max_size=20))
def test_each_press_counts_once_as_short_or_long(presses):
    lengths = PressLengths([Button.GRIPPER, Button.SUCCESS], [Button.TAKE_OVER, Button.DISCARD])
    assert not lengths.update(0, 0)
    time_ns = told = expected = 0
    for buttons, held_ns in presses:
        told += len(lengths.update(buttons, time_ns))
        time_ns += held_ns
        told += len(lengths.update(buttons, time_ns))
        told += len(lengths.update(0, time_ns))
        expected += buttons.bit_count()
    assert told == expected


def test_a_button_that_is_stuck_from_the_beginning_never_counts():
    lengths = PressLengths([Button.GRIPPER, Button.SUCCESS], [Button.TAKE_OVER, Button.DISCARD])
    told = [lengths.update(1, time_ns) for time_ns in range(0, 10**10, 10**8)]
    assert not any(told)
    assert not lengths.update(3, 10**10)
    assert lengths.update(1, 10**10 + 1) == {Button.SUCCESS}
    assert not lengths.update(0, 10**10 + 2)  # it comes loose
    lengths.update(1, 10**10 + 3)
    assert lengths.update(0, 10**10 + 4) == {Button.GRIPPER}


def test_devices_are_found_by_what_they_are(tmp_path):
    HidPuck(tmp_path, 0, KEYBOARD).unplug()
    HidPuck(tmp_path, 1, b"").unplug()
    puck = HidPuck(tmp_path, 7)
    (found,) = hid_devices(spacemouse.USAGE, puck.system, puck.devices)
    assert (found.path, found.vendor, found.product) == (puck.path, 0x256F, 0xC62E)
    assert found.name == "3Dconnexion SpaceMouse"
    source = SpaceMouseSource(SpaceMouseConfig(), puck.system, puck.devices)
    source.open()
    source.close()
    puck.unplug()


@given(st.binary(max_size=12))
def test_the_usage_of_any_descriptor_is_told_or_unknown(descriptor):
    usage = first_usage(descriptor)
    assert usage is None or descriptor[:4] == bytes([5, usage[0], 9, usage[1]])


def test_where_there_is_none_the_message_says_what_to_do(tmp_path):
    with pytest.raises(DeviceError, match=r"No SpaceMouse was found.*teleop\.path"):
        SpaceMouseSource(SpaceMouseConfig(), tmp_path, tmp_path).open()


def test_without_permission_the_message_has_the_rule():
    """In the place of a device that only root may read: a file that only root may read."""
    code = (
        "import os; from pathlib import Path; from robopolicy_drivers.teleop.hidraw import HidReports; "
        "from robopolicy_drivers.teleop.spacemouse import RULE; os.getuid() or os.setuid(65534); "
        "HidReports(Path('/etc/shadow'), 'SpaceMouse', RULE)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
    assert "You may not read" in told
    assert 'TAG+="uaccess"' in told


def test_a_button_of_no_meaning_is_refused():
    with pytest.raises(UnknownNameError, match="gripper"):
        SpaceMouseConfig(buttons=["griper"])


def device_of(puck):
    return SteeringDevice(SpaceMouseConfig(path=str(puck.path)))


def test_it_conforms(puck):
    assert check_sensor(lambda: device_of(puck))


def test_it_steers_and_stops_when_reports_stop_coming(puck):
    with device_of(puck) as device:
        puck.push(0, -175, 0, 0, 0, 0, seconds=0.1)
        puck.move(0, -175, 0, 0, 0, 0)
        assert wait_until(lambda: device.steering().twist[0] > 0.3)
        np.testing.assert_array_equal(device.steering().twist[1:], 0.0)
        assert wait_until(lambda: not device.steering().twist.any())  # nothing has been reported since


def test_a_puck_that_is_deflected_from_the_beginning_moves_nothing(puck):
    """A hand that lies on it, or a spring that has worn out."""
    puck.move(0, -175, 0, 0, 0, 0)
    with device_of(puck) as device:
        puck.move(0, -175, 0, 0, 0, 0)
        puck.wait_until_read()
        puck.move(0, -100, 0, 0, 0, 0)
        puck.wait_until_read()
        assert not device.steering().twist.any()
        puck.push(0, 0, 0, 0, 0, 0, seconds=0.05)
        puck.push(0, -350, 0, 0, 0, 0, seconds=0.1)
        puck.move(0, -350, 0, 0, 0, 0)
        assert wait_until(lambda: device.steering().twist[0] == 1.0)


def told(device):
    """Returns what is told of a device that is lost."""
    try:
        device.steering()
    except DeviceError as error:
        return str(error)
    return ""


def test_a_push_is_seen(puck, reaction):
    with device_of(puck) as device:
        puck.move(0, -350, 0, 0, 0, 0)
        reaction("a push of the puck, until it can be read", lambda: device.steering().twist[0] > 0)


def test_an_unplugged_device_is_told(puck, reaction):
    with device_of(puck) as device:
        puck.unplug()
        reaction("an unplugged SpaceMouse", lambda: "was unplugged" in told(device))


def test_a_device_whose_process_is_killed_is_told(puck, reaction):
    with device_of(puck) as device:
        os.kill(device.pid, signal.SIGKILL)
        reaction("a killed teleoperation process", lambda: "was ended by SIGKILL" in told(device))


def test_a_report_of_unknown_length_is_told(puck):
    with device_of(puck) as device:
        puck.report(1, 0, 0, 0)
        assert wait_until(lambda: "not supported" in told(device))
