"""The keyboard as a device of its own: real keys on an X server, read in another process."""

import numpy as np
import pytest
from device_targets import wait_until

from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.conformance import check_sensor
from robopolicy_drivers.teleop.configs import Button, KeyboardConfig
from robopolicy_drivers.teleop.steered import SteeringDevice
from robopolicy_drivers.teleop.steering import NewPresses

pytestmark = pytest.mark.realtime


@pytest.fixture
def shown(screen, monkeypatch):
    """Device processes that are started now show their windows on the screen."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
        if name in screen.environment:
            monkeypatch.setenv(name, screen.environment[name])
    return screen


def test_it_conforms(shown):
    assert check_sensor(lambda: SteeringDevice(KeyboardConfig()))


def test_held_keys_steer_and_each_button_has_its_key(shown):
    with SteeringDevice(KeyboardConfig()) as device:
        presses = NewPresses()
        presses.of(device.steering().presses)
        shown.do("keydown", "w")
        assert wait_until(lambda: device.steering().twist[0] == 1.0)
        np.testing.assert_array_equal(device.steering().twist[1:], 0.0)
        shown.do("keyup", "w")
        assert wait_until(lambda: not device.steering().twist.any())
        shown.do("key", "space", "t", "Return", "BackSpace", "Tab", "Escape")
        assert wait_until(lambda: device.steering().presses.sum() == len(Button))
        assert presses.of(device.steering().presses) == set(Button)


def test_without_a_screen_the_message_says_what_to_do(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DeviceError, match="needs a screen"):
        SteeringDevice(KeyboardConfig()).connect()
