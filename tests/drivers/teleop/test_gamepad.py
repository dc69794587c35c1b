"""A gamepad that SDL itself pretends is there (its virtual joystick), with an Xbox layout; no real pad."""

import json
import subprocess
import sys

import numpy as np
import pytest
from device_targets import wait_until
from hypothesis import given
from hypothesis import strategies as st
from virtual_gamepad import VirtualGamepadConfig

from robopolicy_datasets.errors import ConfigError, DeviceError
from robopolicy_drivers.conformance import check_sensor
from robopolicy_drivers.teleop import gamepad
from robopolicy_drivers.teleop.configs import Button, GamepadConfig
from robopolicy_drivers.teleop.gamepad import twist_of
from robopolicy_drivers.teleop.steered import SteeringDevice
from robopolicy_drivers.teleop.steering import NewPresses

REST = (0, 0, 0, 0, -32768, -32768)
AWAY = (0, -32768, 0, 0, -32768, -32768)

pytest.importorskip("pygame", reason="pygame is not installed")
pytestmark = pytest.mark.realtime


class Pad:
    """A device whose pad does what it is told."""

    def __init__(self, file):
        self.file = file
        self.config = VirtualGamepadConfig(file=str(file))

    def do(self, *hold, axes=REST, unplug=False):
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({"axes": axes, "hold": hold, "unplug": unplug}))
        new.replace(self.file)


@pytest.fixture
def pad(tmp_path):
    return Pad(tmp_path / "pad.json")


def settle(device):
    """Waits until the device has read its pad several times more."""
    before = device.read()[0]
    assert wait_until(lambda: device.read()[0] > before + 50_000_000)


def test_it_conforms(pad):
    assert check_sensor(lambda: SteeringDevice(pad.config))


def test_sticks_steer_while_the_shoulder_button_is_held(pad):
    with SteeringDevice(pad.config) as device:
        pad.do(axes=AWAY)
        assert wait_until(lambda: device.steering().twist[0] == 1.0)
        assert not device.steering().engaged
        pad.do(gamepad.LEFT_SHOULDER, axes=AWAY)
        assert wait_until(lambda: device.steering().engaged)
        np.testing.assert_array_equal(device.steering().twist, [1, 0, 0, 0, 0, 0])
        pad.do(axes=AWAY)
        assert wait_until(lambda: not device.steering().engaged)


def test_triggers_raise_and_lower_and_the_right_shoulder_slows(pad):
    with SteeringDevice(pad.config) as device:
        pad.do(gamepad.LEFT_SHOULDER, axes=(0, 0, 0, 0, -32768, 32767))
        assert wait_until(lambda: device.steering().twist[2] == 1.0)
        pad.do(gamepad.LEFT_SHOULDER, gamepad.RIGHT_SHOULDER, axes=(0, 0, 0, 0, 32767, -32768))
        assert wait_until(lambda: device.steering().twist[2] == -0.2)


@pytest.mark.parametrize(
    "axes_and_hold", [(AWAY, ()), (REST, (gamepad.LEFT_SHOULDER,))], ids=["stick", "clutch"]
)
def test_what_is_held_or_stuck_from_the_beginning_moves_nothing(pad, axes_and_hold):
    axes, hold = axes_and_hold
    pad.do(*hold, axes=axes)
    with SteeringDevice(pad.config) as device:
        pad.do(*hold, gamepad.LEFT_SHOULDER, gamepad.A, axes=AWAY)
        assert wait_until(lambda: device.steering().presses.sum() == 1)
        assert not device.steering().engaged
        assert not device.steering().twist.any()
        pad.do()
        settle(device)
        pad.do(gamepad.LEFT_SHOULDER, axes=AWAY)
        assert wait_until(lambda: device.steering().engaged and device.steering().twist[0] == 1.0)


def test_each_press_is_counted_once_however_seldom_it_is_read(pad):
    meanings = gamepad.BUTTON_OF
    with SteeringDevice(pad.config) as device:
        presses = NewPresses()
        assert not presses.of(device.steering().presses)
        for count, number in enumerate(meanings, start=1):
            pad.do(number)
            assert wait_until(lambda count=count: device.steering().presses.sum() == count)
            pad.do()
            settle(device)
        assert presses.of(device.steering().presses) == set(meanings.values()) == set(Button)
        assert not presses.of(device.steering().presses)


def test_an_unplugged_pad_is_told(pad, reaction):
    with SteeringDevice(pad.config) as device:
        pad.do(unplug=True)

        def is_told():
            try:
                device.steering()
            except DeviceError as error:
                return "was unplugged" in str(error)
            return False

        reaction("an unplugged gamepad", is_told)


def test_where_there_is_none_the_message_says_what_to_do():
    with pytest.raises(DeviceError, match=r"SDL finds 0 gamepads.*usermod -aG input"):
        SteeringDevice(GamepadConfig()).connect()


def test_without_pygame_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['pygame'] = None; from robopolicy_drivers.teleop.gamepad import *; "
        "GamepadSource(GamepadConfig()).open()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "MissingExtraError: teleop=gamepad needs the extra 'keyboard'" in result.stderr


@pytest.mark.parametrize(
    "settings", [{"dead_zone": 1.0}, {"number": -1}, {"speed": 0.0}, {"view_yaw": 1e999}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError):
        GamepadConfig(**settings)


@given(st.tuples(*[st.floats(-1, 1)] * 4, *[st.floats(0, 1)] * 2), st.floats(0, 0.9))
def test_a_twist_is_bounded_and_zero_within_the_dead_zone(axes, dead_zone):
    twist = twist_of(np.array(axes), frozenset(), dead_zone)
    assert (np.abs(twist) <= 1.0).all()
    within = twist_of(np.clip(axes, -dead_zone, dead_zone), frozenset(), dead_zone)
    np.testing.assert_array_equal(within, 0.0)
