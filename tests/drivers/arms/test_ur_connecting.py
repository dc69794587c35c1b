"""What a person reads where a Universal Robots arm cannot be connected. Our own emulator, and strangers."""

import contextlib
import socket
import struct
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ur_peer import EmulatedUr, free_host, open_link

from robopolicy_datasets.errors import ConfigError, DeviceError, MissingExtraError
from robopolicy_drivers.arms.arm import Arm
from robopolicy_drivers.arms.ur import UrConfig
from robopolicy_drivers.arms.ur_greeting import DASHBOARD_PORT, PROGRAM_PORT, RTDE_PORT, greet

pytest.importorskip("rtde_control", reason="the extra 'ur' is not installed")
pytestmark = pytest.mark.realtime


CANNOT_CONNECT = {
    "local": ("local", "is in local control.*remote control"),
    "emergency_stop": ("emergency_stop", "cannot be moved: The emergency stop is pressed"),
    "speed 0": ("speed 0", "cannot be moved: The speed slider stands at 0 %"),
}


@pytest.mark.parametrize("state", CANNOT_CONNECT)
def test_an_arm_that_is_not_ready_says_what_to_do(controller, state):
    line, text = CANNOT_CONNECT[state]
    controller.say(line)
    controller.asked("safetystatus")  # by its answer it has heard what was said before
    with pytest.raises(DeviceError, match=text):
        open_link(controller.host)


def test_another_model_than_the_embodiment_is_refused(controller):
    with pytest.raises(
        DeviceError, match=r"moves a 'UR5' .* embodiment 'ur5e'; robot\.embodiment is 'ur10e'"
    ):
        open_link(controller.host, embodiment="ur10e")


def test_two_programs_do_not_share_an_arm(controller):
    with Arm(UrConfig(host=controller.host)), pytest.raises(DeviceError, match="in use"):
        Arm(UrConfig(host=controller.host)).connect()


def test_nothing_at_the_address_is_told_at_once():
    host = free_host()
    with pytest.raises(DeviceError, match=rf"Nothing answers at port 29999 of {host}.*Is the controller on"):
        open_link(host)


def test_a_controller_that_takes_connections_and_never_answers_is_given_up():
    with EmulatedUr() as frozen:
        frozen.freeze()
        with pytest.raises(DeviceError, match=r"does not answer.*Restart it"):
            open_link(frozen.host)


@pytest.mark.parametrize(
    ("version", "text"),
    [((10, 9, 0, 0), r"version 10\.9\.0\.0; PolyScope 3 .* and 5"), ((2, 0, 0, 1), r"PolyScope 3")],
)
def test_a_version_that_is_not_known_is_refused(version, text):
    def answer(message):
        answers = {ord("V"): b"\x01", ord("v"): struct.pack(">4I", *version)}
        kind = message[2]
        return struct.pack(">HB", 3 + len(answers[kind]), kind) + answers[kind]

    with stranger(answer) as host, pytest.raises(DeviceError, match=text):
        greet(host)


@settings(max_examples=25)
@given(st.binary(min_size=1, max_size=40))
def test_whatever_answers_is_told_from_a_controller(answer):
    with (
        stranger(lambda _: answer, closing=True) as host,
        pytest.raises(DeviceError, match=r"ort 30004 of|RTDE"),
    ):
        greet(host)


@contextlib.contextmanager
def stranger(answer, closing=False):
    """Something that answers each message at the ports of a controller with ``answer(message)``."""
    host = free_host()

    def serve(listening):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection:
                    while message := connection.recv(4096):
                        connection.sendall(answer(message))
                        if closing:
                            break

    with contextlib.ExitStack() as stack:
        for port in (RTDE_PORT, DASHBOARD_PORT, PROGRAM_PORT):
            listening = socket.create_server((host, port))
            stack.callback(listening.close)
            stack.callback(listening.shutdown, socket.SHUT_RDWR)
            threading.Thread(target=serve, args=(listening,), daemon=True).start()
        yield host


def test_a_missing_package_names_its_extra(controller, monkeypatch):
    monkeypatch.setitem(sys.modules, "dashboard_client", None)
    with pytest.raises(MissingExtraError, match=r"robopolicy\[ur\]"):
        open_link(controller.host)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"lookahead": 0.5}, "servoj takes 0.03"),
        ({"gain": 10.0}, "100 to 2000"),
        ({"payload": -1.0}, "a payload of at least 0"),
        ({"largest_lag": 0.0}, "a lag above 0"),
        ({"rate_hz": 1000.0}, "at most 500 Hz"),
        ({"payload_center": [0.0]}, "robot.payload_center is .* give 3 finite numbers"),
    ],
)
def test_settings_out_of_range_are_refused(settings, text):
    with pytest.raises(ConfigError, match=text):
        UrConfig(**settings)
