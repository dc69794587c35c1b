"""What the link makes of a vehicle's words. The vehicle here is an own emulator on pymavlink's messages."""

import os
import socket
import threading
import time
import tty

import numpy as np
import pytest
from flights import free_port

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.aerial.autopilots import AUTOPILOTS
from robopolicy_drivers.aerial.configs import MavlinkConfig
from robopolicy_drivers.aerial.link import MavlinkLink
from robopolicy_drivers.aerial.pilot import Pilot
from robopolicy_drivers.embodiments import load_embodiment

pytestmark = pytest.mark.realtime

GUIDED = 4  # ArduCopter's
ARM, TAKE_OFF, SET_MODE, STREAM = 400, 22, 176, 511
LOCAL_POSITION = 32


class Emulator:
    """Says at 50 Hz what it is given to say, and answers commands from a list, by their number."""

    def __init__(
        self, port, *, system=1, kind=2, autopilot=3, position=True, landed=2, answers=(), lost_requests=0
    ):
        from pymavlink import mavutil

        self.line = mavutil.mavlink_connection(
            f"udpout:127.0.0.1:{port}", source_system=system, source_component=1
        )
        self.kind, self.autopilot, self.position, self.mode = kind, autopilot, position, 0
        self.base_mode, self.down, self.set_points = 81, -3.0, []
        self.answers, self.asked = list(answers), []
        self.landed, self.lost_requests, self.requests = landed, lost_requests, 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        begun = time.monotonic()
        while not self.over.wait(0.02):
            milliseconds = int(1e3 * (time.monotonic() - begun))
            self.line.mav.heartbeat_send(self.kind, self.autopilot, self.base_mode, self.mode, 4)
            self.line.mav.attitude_quaternion_send(milliseconds, 1, 0, 0, 0, 0, 0, 0)
            if self.landed is not None:
                self.line.mav.extended_sys_state_send(0, self.landed)
            if self.position and self.requests > self.lost_requests:
                self.line.mav.local_position_ned_send(milliseconds, 1, 2, self.down, 0, 0, 0)
            while (message := self.line.recv_msg()) is not None:
                if message.get_type() == "COMMAND_LONG" and message.command == STREAM:
                    self.requests += message.param1 == LOCAL_POSITION
                elif message.get_type() == "COMMAND_LONG":
                    self.answer(message)
                elif message.get_type() == "SET_POSITION_TARGET_LOCAL_NED":
                    self.set_points.append((message.x, message.y, message.z))

    def answer(self, message):
        self.asked.append((message.command, message.confirmation, message.param2))
        result, mode = self.answers.pop(0) if self.answers else (0, GUIDED)
        self.line.mav.command_ack_send(22, 4)  # of something else, asked by nobody here
        if result is not None:
            self.line.mav.command_ack_send(message.command, result, 255, 0, 245, 191)
            self.line.mav.statustext_send(3, b"PreArm: Need Position Estimate")
        self.mode = mode
        if message.command == ARM and result == 0:
            self.base_mode |= 128
        elif message.command == TAKE_OFF:
            self.down -= message.param7

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.over.set()
        self.thread.join()
        self.line.close()


def linked(port, **settings):
    return MavlinkLink(MavlinkConfig(address=f"udpin:127.0.0.1:{port}", **settings))


def finish(link, steps):
    """Advances steps as the control loop does."""
    for _ in steps:
        link.receive()
        time.sleep(0.005)


@pytest.fixture
def quick(monkeypatch):
    """Nobody is waited for long."""
    monkeypatch.setattr("robopolicy_drivers.aerial.link._OPEN_S", 1.0)
    monkeypatch.setattr("robopolicy_drivers.aerial.link._ANSWER_S", 0.3)


def test_it_says_who_is_there_instead_of_the_vehicle(quick):
    port = free_port()
    link = linked(port, system_id=7)
    with Emulator(port), pytest.raises(DeviceError, match=r"system 1, component 1 \(MAV_TYPE_QUADROTOR\)"):
        link.open()
    link.close()


def test_it_says_what_to_look_at_where_nobody_is_there(quick):
    link = linked(free_port())
    with pytest.raises(DeviceError, match="See that the vehicle is on and sends to this port"):
        link.open()
    link.close()


@pytest.mark.parametrize(
    ("vehicle", "problem"),
    [
        ({"kind": 1}, "fixed wing"),
        ({"position": False}, "no LOCAL_POSITION_NED.*estimator"),
        ({"landed": None}, "no EXTENDED_SYS_STATE.*whether it stands on the ground"),
        ({"landed": 0}, "no EXTENDED_SYS_STATE.*whether it stands on the ground"),
    ],
    ids=["fixed_wing", "no_position", "no_landed_state", "undefined_landed_state"],
)
def test_a_vehicle_that_cannot_be_flown_is_refused(quick, vehicle, problem):
    port = free_port()
    link = linked(port)
    with Emulator(port, **vehicle), pytest.raises(DeviceError, match=problem):
        link.open()
    link.close()


def test_a_request_that_the_radio_loses_is_made_again(quick):
    port = free_port()
    link = linked(port)
    with Emulator(port, lost_requests=1):
        link.open()
    link.close()


def test_arducopters_modes_and_frames(quick):
    port = free_port()
    link = linked(port)
    with Emulator(port) as emulator:
        link.open()
        assert link.autopilot is AUTOPILOTS["ardupilot"]
        assert link.vehicle.position.tolist() == [2, 1, 3]
        finish(link, link.set_mode(link.autopilot.guided, "follow set points"))
        assert emulator.asked == [(SET_MODE, 0, GUIDED)]
        assert link.vehicle.mode == "GUIDED"
    link.close()


def test_arducopter_is_guided_first_then_armed_and_takes_off_by_its_own_command(quick):
    port = free_port()
    config = MavlinkConfig(address=f"udpin:127.0.0.1:{port}", geofence_upper=[3.0, 3.0, 6.0])
    config.safety.stale_state_s = 5.0  # the emulator shares this process
    link = MavlinkLink(config)
    with Emulator(port) as emulator:
        link.open()
        pilot = Pilot(link, config, load_embodiment("quadrotor"))
        pilot.observe()
        pilot.take_off(1.5)
        deadline = time.monotonic() + 10.0
        while pilot.outcome is None or not emulator.set_points:
            assert time.monotonic() < deadline
            pilot.observe()
            pilot.tick(now_ns())
            time.sleep(0.02)
        assert pilot.outcome == ""
        assert [command for command, *_ in emulator.asked] == [SET_MODE, ARM, TAKE_OFF, SET_MODE]
        assert emulator.set_points[-1] == pytest.approx((1.0, 2.0, -4.5))  # stays there
    link.close()


def test_set_points_wait_for_a_vehicle_that_does_not_follow_yet(quick):
    port = free_port()
    config = MavlinkConfig(address=f"udpin:127.0.0.1:{port}", geofence_upper=[3.0, 3.0, 6.0])
    config.safety.stale_state_s = 5.0  # the emulator shares this process
    link = MavlinkLink(config)
    embodiment = load_embodiment("quadrotor")
    with Emulator(port, answers=[(None, 0)] * 3) as emulator:  # it is in its mode for them after a second
        emulator.base_mode |= 128
        link.open()
        pilot = Pilot(link, config, embodiment)
        before, after, deadline = [], [], time.monotonic() + 20.0
        goal = np.array([2.4, 1.0, 3.0, 0.0, 0.0, 0.5 * np.pi])
        while not after or after[-1][1] < 2.39:
            assert time.monotonic() < deadline
            pilot.observe()
            pilot.command(goal, now_ns() + seconds_to_ns(0.2), now_ns())
            pilot.tick(now_ns())
            time.sleep(0.02)
            told = before if link.vehicle.custom_mode != GUIDED else after
            told += emulator.set_points[len(before) + len(after) :]
    link.close()
    assert len(before) > 10
    np.testing.assert_allclose(before, np.tile([1.0, 2.0, -3.0], (len(before), 1)), atol=1e-6)
    steps = np.linalg.norm(np.diff([before[-1], *after], axis=0), axis=1)
    assert steps.max() <= embodiment.flying_base.velocity_limit / config.rate_hz + 1e-6


def test_a_command_is_repeated_until_it_is_answered_and_answers_to_others_do_not_count(quick):
    port = free_port()
    link = linked(port)
    with Emulator(port, answers=[(None, 0), (1, 0), (5, 0), (0, 0)]) as emulator:
        link.open()
        finish(link, link.command("COMPONENT_ARM_DISARM", "start its rotors", 1))
        assert [confirmation for _, confirmation, _ in emulator.asked] == [0, 1, 2, 3]
    link.close()


@pytest.mark.parametrize(
    ("result", "told"), [(2, "MAV_RESULT_DENIED"), (4, "MAV_RESULT_FAILED"), (1, "TEMPORARILY_REJECTED")]
)
def test_a_refused_command_tells_the_vehicles_own_reason(quick, result, told):
    port = free_port()
    link = linked(port)
    with Emulator(port, answers=[(result, 0)] * 4):
        link.open()
        with pytest.raises(DeviceError, match=rf"{told}, saying: .*Need Position Estimate"):
            finish(link, link.command("COMPONENT_ARM_DISARM", "start its rotors", 1))
    link.close()


def test_who_changed_the_mode_is_known_where_its_answer_is_heard(quick):
    port = free_port()
    link = linked(port)
    with Emulator(port) as emulator:
        link.open()
        assert "pilot's switch" in link.who_changed_the_mode()
        emulator.line.mav.command_ack_send(SET_MODE, 0, 255, 0, 77, 190)
        time.sleep(0.05)
        link.receive()
        assert link.who_changed_the_mode().startswith("station 77 (component 190)")
    link.close()


def test_a_busy_port_is_refused_although_it_could_be_shared(quick):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        link = linked(other.getsockname()[1])
        with pytest.raises(DeviceError, match="Another program listens there"):
            link.open()
        link.close()


@pytest.mark.parametrize(
    ("address", "advice"),
    [
        ("/dev/ttyNOBODY", "not plugged in"),
        pytest.param("tcp:127.0.0.1:1", "Nobody listens there", marks=pytest.mark.soak),  # tried for seconds
        ("udpin:nowhere", "Give e.g. udpin"),
    ],
)
def test_an_address_that_cannot_be_used_says_what_to_do(address, advice):
    link = MavlinkLink(MavlinkConfig(address=address))
    with pytest.raises(DeviceError, match=advice):
        link.open()
    link.close()


class Words:
    """A vehicle's heartbeat, attitude, position and landed state as bytes."""

    def __init__(self):
        from pymavlink.dialects.v20 import common

        packer = common.MAVLink(None, srcSystem=1, srcComponent=1)
        messages = (
            packer.heartbeat_encode(2, 12, 81, 0, 4),
            packer.attitude_quaternion_encode(10, 1, 0, 0, 0, 0, 0, 0),
            packer.local_position_ned_encode(10, 0, 0, 0, 0, 0, 0),
            packer.extended_sys_state_encode(0, 1),
        )
        self.data = b"".join(message.pack(packer) for message in messages)


def serial_line():
    """Returns an address, and functions that send what a vehicle says and cut the line."""
    master, slave = os.openpty()
    tty.setraw(slave)
    name = os.ttyname(slave)

    def cut():
        os.close(slave)
        os.close(master)

    return name, lambda data: os.write(master, data), cut


def tcp_connection():
    """The same over TCP."""
    server = socket.create_server(("127.0.0.1", 0))
    accepted = []

    def send(data):
        if not accepted:
            accepted.append(server.accept()[0])
        accepted[0].sendall(data)

    def cut():
        accepted[0].close()
        server.close()

    return f"tcp:127.0.0.1:{server.getsockname()[1]}", send, cut


@pytest.mark.parametrize("line", [serial_line, tcp_connection])
def test_a_cut_line_says_what_to_do(line):
    address, send, cut = line()
    link, opened, words = MavlinkLink(MavlinkConfig(address=address)), threading.Event(), Words().data

    def say():
        while not opened.wait(0.05):
            send(words)

    vehicle = threading.Thread(target=say)
    vehicle.start()
    link.open()
    opened.set()
    vehicle.join()
    cut()
    with pytest.raises(DeviceError, match=r"was cut: .* connect again"):
        receive_for(link, 2.0)
    link.close()


def receive_for(link, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        link.receive()


def test_without_pymavlink_the_extra_is_named(monkeypatch):
    import importlib

    def absent(name):
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(Exception, match=r"robopolicy\[mavlink\]"):
        linked(free_port()).open()
