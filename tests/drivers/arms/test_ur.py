"""Universal Robots arms: ur_rtde's real client against our own emulator of a controller."""

import contextlib
import os
import re
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from device_targets import wait_until
from hypothesis import given, settings
from hypothesis import strategies as st
from ur_peer import EmulatedUr, free_host

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import ConfigError, DeviceError, MissingExtraError
from robopolicy_datasets.geometry import pose_matrix, quaternion_to_matrix
from robopolicy_drivers.arms.arm import Arm
from robopolicy_drivers.arms.ur import UrConfig
from robopolicy_drivers.arms.ur_greeting import DASHBOARD_PORT, PROGRAM_PORT, RTDE_PORT, greet
from robopolicy_drivers.arms.ur_link import UrLink
from robopolicy_drivers.conformance import check_driver
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.embodiments import load_embodiment

pytest.importorskip("rtde_control", reason="the extra 'ur' is not installed")

sys.path.append(str(Path(__file__).parents[1] / "emulators"))
import ur_model

PERIOD_S = 0.008


@pytest.fixture(scope="module")
def running():
    with EmulatedUr(unlock_after=0.5) as peer:
        yield peer


@pytest.fixture
def peer(running):
    """The running emulator, made well again."""
    for line in ("power_on", "normal", "remote", "speed 1", "force 0 0 0 0 0 0"):
        running.say(line)
    assert wait_until(lambda: asked(running, "safetystatus").endswith("NORMAL"))
    return running


def asked(peer, question):
    """Returns the dashboard's answer."""
    with (
        socket.create_connection((peer.host, DASHBOARD_PORT)) as connection,
        connection.makefile("rw") as file,
    ):
        file.readline()
        file.write(f"{question}\n")
        file.flush()
        return file.readline().strip()


def open_link(host, **settings):
    """Opens the link of an arm in this process, for what is refused."""
    with contextlib.closing(UrLink(UrConfig(host=host, **settings))) as link:
        link.open()


def soon(seconds=0.02):
    return now_ns() + seconds_to_ns(seconds)


def joints(arm):
    return arm.state()[1]["robot0_joint_pos"].astype(np.float64)


def swing(arm, ended, amplitude=0.2, speed=0.8):
    """Swings the first joint until ``ended()``, or a command is refused; returns the refusal's text."""
    start, begun = joints(arm), time.monotonic()
    while not ended():
        angle = amplitude * np.sin(speed / amplitude * (time.monotonic() - begun))
        try:
            arm.command(start + angle * np.eye(6)[0], soon())
        except DeviceError as error:
            return str(error)
        time.sleep(PERIOD_S)
    return ""


def move(arm):
    """Swings the arm until it is seen to move."""
    start = joints(arm)
    told = swing(arm, lambda: np.abs(joints(arm) - start).max() > 0.02)
    assert not told, told


def goes_on(arm):
    goal = joints(arm) + 0.1 * np.eye(6)[0]
    arm.command(goal, soon(0.2))
    return wait_until(lambda: np.abs(joints(arm) - goal).max() < 1e-3)


# What it does


@pytest.mark.parametrize(("action", "rate_hz"), [("pose", 125.0), ("joint", 500.0)])
def test_an_arm_conforms(peer, action, rate_hz):
    assert check_driver(lambda: Arm(UrConfig(host=peer.host, action=action, rate_hz=rate_hz)))
    assert asked(peer, "running") == "Program running: false"  # closing has ended the program


def test_a_controller_of_the_older_generation_is_spoken_to_at_125_hz():
    with EmulatedUr(version="3.15.8.0") as old:
        with pytest.raises(DeviceError, match=r"takes at most 125 set points"):
            open_link(old.host, rate_hz=500.0)
        # The emulator's arm is that of an e-Series; no embodiment of the older arms is among ours.
        with pytest.raises(DeviceError, match=r"embodiment 'ur5'; robot\.embodiment is 'ur5e'"):
            open_link(old.host)


def test_a_path_of_poses_is_followed(peer, record_property):
    with Arm(UrConfig(host=peer.host, lookahead=0.03)) as arm:
        state = arm.state()[1]
        start = np.concatenate([state["robot0_eef_pos"], state["robot0_eef_rot_axis_angle"]])
        begun, wanted = now_ns(), []
        for step in range(round(2.0 / PERIOD_S)):
            at_ns = begun + seconds_to_ns(0.1 + step * PERIOD_S)
            goal = start + circle(step * PERIOD_S)
            arm.command(goal, at_ns)
            wanted.append((at_ns, goal[:3]))
            time.sleep(max(0.0, 1e-9 * (at_ns - now_ns()) - 0.05))
        records = arm.ring.history(200)
    error_mm, lag_s = best_lag(records, wanted)
    record_property("error_mm", error_mm)
    print(f"circle at 0.1 m/s: error {error_mm:.2f} mm (largest), lag {1e3 * lag_s:.0f} ms")
    assert error_mm < 10.0


def circle(time_s, radius=0.05, speed=0.1):
    angle = speed / radius * time_s
    return np.array([0.0, radius * np.sin(angle), radius * (np.cos(angle) - 1.0), 0.0, 0.0, 0.0])


def best_lag(records, wanted):
    """Returns the largest distance [mm] from the path as it was commanded, at the lag [s] that fits best."""
    times = np.array([record.time_ns for record in records])
    places = np.array([record.data["robot0_eef_pos"] for record in records])
    goal_times, goals = np.array([one[0] for one in wanted]), np.array([one[1] for one in wanted])
    inside = times > goal_times[0] + seconds_to_ns(0.5)

    def error(lag_s):
        at = times[inside] - seconds_to_ns(lag_s)
        path = np.stack([np.interp(at, goal_times, goals[:, axis]) for axis in range(3)], axis=1)
        return float(np.linalg.norm(places[inside] - path, axis=1).max())

    lags = np.arange(0.0, 0.25, 0.002)
    best = min(lags, key=error)
    return 1e3 * error(best), float(best)


def test_the_force_at_the_tool_is_read_and_stops_beyond_its_limit(peer):
    with Arm(UrConfig(host=peer.host, force_limit=30.0)) as arm:
        peer.say("force 1 -2 20 0.1 0.2 -0.3")
        wrench = [1.0, -2.0, 20.0, 0.1, 0.2, -0.3]
        assert wait_until(lambda: np.allclose(arm.state()[1]["robot0_wrench"], wrench))
        peer.say("force 0 0 31 0 0 0")
        assert wait_until(lambda: arm.ring.newest().data["stopped"])
        assert any("30 N" in event.text for event in arm.safety_events())


# What it says and does when something is wrong


FAULTS = {
    "a protective stop": ("protective_stop", "protective stop.*release the stop", None),
    "an emergency stop": ("emergency_stop", "emergency stop is pressed.*power on", "power_on"),
    "a safeguard": ("safeguard", "safeguard stop is active.*Close", "normal"),
    "a program ended at the pendant": ("stop_program", "program does not run.*Releasing", None),
    "the speed slider at 0": ("speed 0", "speed slider stands at 0 %.*Move it up", "speed 1"),
}


def released(arm):
    """Releases; again and again, as a person does while the controller does not unlock yet."""

    refusals = []

    def release():
        try:
            arm.release()
        except DeviceError as error:
            refusals.append(str(error))
            return False
        return True

    assert wait_until(release, timeout_s=5.0), refusals


@pytest.fixture(scope="class")
def connected(running):
    config = UrConfig(
        host=running.host, action="joint", largest_lag=0.2, payload=1.5, payload_center=[0.0, 0.0, 0.06]
    )
    with Arm(config) as arm:
        yield arm


class TestFaults:
    """What a person can mend at the arm, without connecting again."""

    @pytest.fixture
    def arm(self, peer, connected):
        """An arm at the running emulator, which moves."""
        released(connected)
        move(connected)
        return connected

    @pytest.mark.parametrize("fault", FAULTS)
    def test_a_fault_is_named_latches_and_is_released(self, peer, arm, reaction, fault):
        line, text, remedy = FAULTS[fault]
        peer.say(line)
        reaction(fault, lambda: arm.ring.newest().data["stopped"])
        with pytest.raises(DeviceError, match=text):
            arm.command(joints(arm), soon())
        if remedy is not None:
            with pytest.raises(DeviceError, match="cannot be moved"):
                arm.release()
            peer.say(remedy)
        released(arm)
        assert goes_on(arm)
        assert any(re.search(text, event.text) for event in arm.safety_events())

    def test_a_protective_stop_is_not_unlocked_too_early(self, peer, arm):
        peer.say("protective_stop")
        assert wait_until(lambda: arm.ring.newest().data["stopped"])
        with pytest.raises(DeviceError, match=r"not unlocked yet\. Look for its cause, wait until 5 s"):
            arm.release()
        released(arm)

    def test_an_arm_that_cannot_follow_is_noticed(self, peer, arm):
        peer.say("speed 0.05")
        end = time.monotonic() + 5.0
        told = swing(arm, lambda: time.monotonic() > end, amplitude=0.5, speed=1.5)
        assert "behind its set point (allowed: 0.2 rad); the speed slider stands at 5 %" in told

    def test_the_payload_is_set_with_each_program(self, peer, arm):
        with RtdeClient(peer.host) as client:
            assert client.outputs("payload") == (1.5,)
            assert client.outputs("payload_cog") == (0.0, 0.0, 0.06)
            peer.say("payload 0")
            peer.say("stop_program")
            assert wait_until(lambda: arm.ring.newest().data["stopped"])
            arm.release()
            assert wait_until(lambda: client.outputs("payload") == (1.5,))


def test_a_killed_controller_ends_the_process_with_its_words(reaction):
    with EmulatedUr() as mortal, Arm(UrConfig(host=mortal.host, action="joint")) as arm:
        move(arm)
        mortal.kill()
        reaction("a killed controller", lambda: is_lost(arm))
        with pytest.raises(DeviceError, match=r"connection to the controller .* is lost.*Connect again"):
            arm.state()


def is_lost(arm):
    try:
        arm.state()
    except DeviceError:
        return True
    return False


def test_a_controller_that_falls_silent_stops_the_arm_and_then_ends_the_process(reaction):
    with EmulatedUr() as frozen, Arm(UrConfig(host=frozen.host, action="joint")) as arm:
        move(arm)
        frozen.freeze()
        reaction("a silent controller", lambda: arm.ring.newest().data["stopped"])
        with pytest.raises(DeviceError, match=r"has told nothing for .* Check its cable"):
            arm.command(joints(arm), soon())
        reaction("its silence, until the connection is given up", lambda: is_lost(arm))


def test_a_short_silence_is_forgiven_where_a_person_releases_the_stop():
    with EmulatedUr() as frozen, Arm(UrConfig(host=frozen.host, action="joint")) as arm:
        move(arm)
        frozen.freeze()
        assert wait_until(lambda: arm.ring.newest().data["stopped"])
        frozen.thaw()
        released(arm)
        assert goes_on(arm)


def test_closing_does_not_wait_for_a_silent_controller():
    with EmulatedUr() as frozen:
        arm = Arm(UrConfig(host=frozen.host))
        arm.connect()
        frozen.freeze()
        begun = time.monotonic()
        arm.close()
        assert time.monotonic() - begun < 10.0  # a generous bound: the bug would be a hang


def test_the_controller_stops_the_arm_by_itself_when_the_process_is_killed(peer, reaction):
    with Arm(UrConfig(host=peer.host, action="joint")) as arm:
        move(arm)
        os.kill(arm.pid, signal.SIGKILL)
        reaction("a killed driver", lambda: asked(peer, "running") == "Program running: false")


CANNOT_CONNECT = {
    "local": ("local", "is in local control.*remote control"),
    "emergency_stop": ("emergency_stop", "cannot be moved: The emergency stop is pressed"),
    "speed 0": ("speed 0", "cannot be moved: The speed slider stands at 0 %"),
}


@pytest.mark.parametrize("state", CANNOT_CONNECT)
def test_an_arm_that_is_not_ready_says_what_to_do(peer, state):
    line, text = CANNOT_CONNECT[state]
    peer.say(line)
    time.sleep(0.05)
    with pytest.raises(DeviceError, match=text):
        open_link(peer.host)


def test_another_model_than_the_embodiment_is_refused(peer):
    with pytest.raises(
        DeviceError, match=r"moves a 'UR5' .* embodiment 'ur5e'; robot\.embodiment is 'ur10e'"
    ):
        open_link(peer.host, embodiment="ur10e")


def test_registers_that_another_client_writes_are_refused(peer):
    with RtdeClient(peer.host) as other:
        assert other.claim("input_int_register_0").startswith(b"\x01INT32")
        with pytest.raises(DeviceError, match=r"Another program or a fieldbus.*EtherNet/IP"):
            open_link(peer.host)
    with Arm(UrConfig(host=peer.host)) as arm, RtdeClient(peer.host) as other:
        assert b"IN_USE" in other.claim("input_int_register_0")  # and the other way round
        assert goes_on_in_poses(arm)


def goes_on_in_poses(arm):
    state = arm.state()[1]
    goal = np.concatenate([state["robot0_eef_pos"], state["robot0_eef_rot_axis_angle"]])
    goal[2] += 0.02
    arm.command(goal, soon(0.3))
    return wait_until(lambda: abs(arm.state()[1]["robot0_eef_pos"][2] - goal[2]) < 1e-3)


def test_two_programs_do_not_share_an_arm(peer):
    with Arm(UrConfig(host=peer.host)), pytest.raises(DeviceError, match="in use"):
        Arm(UrConfig(host=peer.host)).connect()


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
    def controller(message):
        answers = {ord("V"): b"\x01", ord("v"): struct.pack(">4I", *version)}
        kind = message[2]
        return struct.pack(">HB", 3 + len(answers[kind]), kind) + answers[kind]

    with stranger(controller) as host, pytest.raises(DeviceError, match=text):
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


def test_a_missing_package_names_its_extra(peer, monkeypatch):
    monkeypatch.setitem(sys.modules, "dashboard_client", None)
    with pytest.raises(MissingExtraError, match=r"robopolicy\[ur\]"):
        open_link(peer.host)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"lookahead": 0.5}, "servoj takes 0.03"),
        ({"gain": 10.0}, "100 to 2000"),
        ({"payload": -1.0}, "a payload of at least 0"),
        ({"largest_lag": 0.0}, "a lag above 0"),
        ({"rate_hz": 1000.0}, "at most 500 Hz"),
    ],
)
def test_settings_out_of_range_are_refused(settings, text):
    with pytest.raises(ConfigError, match=text):
        UrConfig(**settings)


# Embodiments


@given(st.lists(st.floats(-np.pi, np.pi), min_size=6, max_size=6), st.sampled_from(ur_model.MODELS))
def test_embodiments_stand_where_the_published_parameters_say(positions, model):
    embodiment = load_embodiment(model.lower())
    flange, tcp = (
        pose_matrix(np.array(pose.position), quaternion_to_matrix(np.array(pose.quaternion)))
        for pose in (embodiment.flange, embodiment.tcp)
    )
    from_dh = ur_model.forward(model, np.array(positions)) @ np.linalg.inv(flange) @ tcp
    np.testing.assert_allclose(Kinematics(embodiment).forward(np.array(positions)), from_dh, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "degrees_a_second"),
    [("ur3e", [180] * 3 + [360] * 3), ("ur5e", [180] * 6), ("ur10e", [120, 120, 180, 180, 180, 180])],
)
def test_speed_limits_are_those_of_the_data_sheets(name, degrees_a_second):
    limits = load_embodiment(name).velocity_limits
    np.testing.assert_allclose(np.degrees(limits), degrees_a_second)


class RtdeClient:
    """The smallest RTDE client, beside ur_rtde's: it claims inputs and reads outputs."""

    def __init__(self, host):
        self.host = host

    def __enter__(self):
        self.socket = socket.create_connection((self.host, RTDE_PORT), 5.0)
        assert self.ask("V", b"\x00\x02") == b"\x01"
        return self

    def __exit__(self, *error):
        self.socket.close()

    def ask(self, kind, body):
        self.socket.sendall(struct.pack(">HB", 3 + len(body), ord(kind)) + body)
        while (answer := self.message())[0] != ord(kind):  # what was still being sent
            pass
        return answer[1]

    def message(self):
        size, kind = struct.unpack(">HB", self.socket.recv(3, socket.MSG_WAITALL))
        return kind, self.socket.recv(size - 3, socket.MSG_WAITALL) if size > 3 else b""

    def claim(self, name):
        return self.ask("I", name.encode())

    def outputs(self, name):
        self.ask("O", struct.pack(">d", 125.0) + name.encode())
        self.ask("S", b"")
        body = self.message()[1]
        self.ask("P", b"")
        return struct.unpack(f">{(len(body) - 1) // 8}d", body[1:])
