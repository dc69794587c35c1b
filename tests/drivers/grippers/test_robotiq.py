"""The Robotiq driver against pymodbus' server with an own emulator of the gripper's registers, on both
transports; a third party's client says whether the registers are used as others use them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from functools import cache

import numpy as np
import pytest
from device_targets import wait_until
from emulated import Emulated
from hypothesis import given
from hypothesis import strategies as st

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import ConfigError, DeviceError, MissingExtraError, UnknownNameError
from robopolicy_drivers.conformance import check_driver
from robopolicy_drivers.grippers.gripper import HostedGripper
from robopolicy_drivers.grippers.robotiq import MODELS, RobotiqConfig, RobotiqLink, Status
from robopolicy_drivers.safety.configs import SafetyConfig

pytest.importorskip("pymodbus", reason="the extra 'modbus' is not installed")
pytestmark = pytest.mark.realtime
# On a machine that is busy the emulator may sleep for a while; only the tests of silence mind.
PATIENT = {"reply_timeout_s": 1.0, "safety": SafetyConfig(stale_state_s=5.0)}
HOST = "127.0.0.31"


def unused_port():
    with socket.create_server((HOST, 0)) as server:
        return server.getsockname()[1]


class Peer(Emulated):
    """The emulator on a transport, and the port of its gripper."""

    def __init__(self, kind):
        super().__init__("robotiq_gripper", *(["pty"] if kind == "pty" else ["tcp", HOST, unused_port()]))
        self.port = self.told[0] if kind == "pty" else f"tcp://{self.told[0]}"


@pytest.fixture
def kind():
    """The transport; ``both_transports`` asks for each of them."""
    return "tcp"


both_transports = pytest.mark.parametrize("kind", ["tcp", "pty"])


@pytest.fixture
def own_peer(kind):
    """A peer that the test may leave in any state."""
    with Peer(kind) as peer:
        yield peer


@pytest.fixture(scope="module")
def connected():
    """Returns the peer and the connected gripper of a transport, which many tests use one after the other."""
    with ExitStack() as devices:

        @cache
        def of(kind):
            peer = devices.enter_context(Peer(kind))
            config = RobotiqConfig(port=peer.port, **PATIENT)
            return peer, devices.enter_context(HostedGripper(config))

        yield of


@pytest.fixture
def peer(kind, connected):
    return connected(kind)[0]


@pytest.fixture
def gripper(kind, connected):
    """Open, and not stopped."""
    peer, gripper = connected(kind)
    peer.say("object 0")
    if stopped(gripper):
        gripper.release()
    go(gripper, 0.085)
    assert wait_until(lambda: width(gripper) > 0.084)
    return gripper


def width(gripper):
    return float(gripper.state()[1]["robot0_gripper_width"][0])


def go(gripper, opening):
    return gripper.command(np.array([opening]), now_ns() + seconds_to_ns(0.05))


def goes_on(gripper, opening):
    """Releases the gripper and commands it; returns whether that was possible."""
    try:
        gripper.release()
        go(gripper, opening)
    except DeviceError:
        return False
    return True


def stopped(gripper):
    return bool(gripper.ring.newest().data["stopped"])


@both_transports
def test_it_conforms(own_peer):
    assert check_driver(lambda: HostedGripper(RobotiqConfig(port=own_peer.port, **PATIENT)))


@both_transports
def test_it_goes_to_an_opening_and_no_further_than_it_can(gripper):
    go(gripper, 0.03)
    assert wait_until(lambda: abs(width(gripper) - 0.03) < 0.001)
    assert go(gripper, 0.5) == pytest.approx(0.085)
    assert wait_until(lambda: width(gripper) == pytest.approx(0.085, abs=0.001))


@both_transports
def test_positions_come_at_a_rate_that_is_told(gripper, kind):
    time.sleep(1.0)
    times = {record.time_ns for record in gripper.ring.history(100)}
    rate = (len(times) - 1) / (max(times) - min(times)) * 1e9
    print(f"rate of positions over {kind}: {rate:.0f} Hz, the loop's own: {gripper.config.rate_hz:.0f} Hz")
    assert len(times) > 5


def test_a_stop_halts_moving_fingers(gripper):
    go(gripper, 0.0)
    assert wait_until(lambda: width(gripper) < 0.06)
    gripper.stop("a person is in the way")
    time.sleep(0.2)
    rest = width(gripper)
    time.sleep(0.2)
    assert width(gripper) == rest > 0.02
    with pytest.raises(DeviceError, match="a person is in the way"):
        go(gripper, 0.0)
    gripper.release()
    go(gripper, 0.0)
    assert wait_until(lambda: width(gripper) < 0.001)


def test_a_stop_keeps_the_grip_on_an_object(gripper, peer):
    peer.say("object 120")
    go(gripper, 0.0)
    held = RobotiqConfig().width(120)
    assert wait_until(lambda: abs(width(gripper) - held) < 1e-4)
    time.sleep(0.3)
    gripper.stop("check")
    peer.say("object 0")  # taken away: the fingers close on, because their grip was kept
    assert wait_until(lambda: width(gripper) < 0.001)


def test_a_fault_latches_and_a_release_activates_the_gripper_again(gripper, peer, reaction):
    go(gripper, 0.0)
    assert wait_until(lambda: width(gripper) < 0.07)
    peer.say("fault 14")
    reaction("a fault that the gripper reports", lambda: stopped(gripper))
    with pytest.raises(DeviceError, match=r"fault 14: its current is too high; free the fingers"):
        go(gripper, 0.0)
    with pytest.raises(DeviceError, match=r"is being activated.*Release the stop again in some seconds"):
        gripper.release()
    assert wait_until(lambda: goes_on(gripper, 0.04), pause_s=0.1)
    assert wait_until(lambda: abs(width(gripper) - 0.04) < 0.001)


def test_a_second_controller_is_noticed(gripper, peer, reaction):
    go(gripper, 0.03)
    assert wait_until(lambda: abs(width(gripper) - 0.03) < 0.001)
    time.sleep(0.3)
    peer.say("set 10")
    reaction("another program's request", lambda: stopped(gripper))
    with pytest.raises(DeviceError, match="another program commands the gripper: it goes to 10"):
        go(gripper, 0.0)


def test_a_gripper_that_another_program_paused_keeps_its_grip_when_it_is_released(gripper, peer):
    peer.say("object 120")
    go(gripper, 0.0)
    held = RobotiqConfig().width(120)
    assert wait_until(lambda: abs(width(gripper) - held) < 1e-4)
    time.sleep(0.3)
    peer.say("pause")
    assert wait_until(lambda: stopped(gripper))
    gripper.release()
    widest = max(float(record.data["robot0_gripper_width"][0]) for record in gripper.ring.history(20))
    assert widest == pytest.approx(held, abs=1e-4)  # activated anew, the fingers would have opened
    go(gripper, 0.05)
    assert wait_until(lambda: abs(width(gripper) - 0.05) < 0.001)


def test_what_was_asked_for_in_silence_is_not_done_when_the_gripper_answers_again(own_peer):
    with closing(RobotiqLink(RobotiqConfig(port=own_peer.port))) as link:
        link.open()
        assert wait_until(lambda: link.read()[1] > 0.08)
        own_peer.freeze()
        assert wait_until(link.fault)
        link.send(0.0)  # of a tick that has not seen the fault yet
        own_peer.thaw()
        silent_ns = now_ns()
        assert wait_until(lambda: link.read()[0] > silent_ns + seconds_to_ns(0.5))
        assert link.read()[1] > 0.08
        assert "does not answer" in link.fault()  # until a person has released the stop
        link.recover()
        assert not link.fault()
        link.send(0.0)
        assert wait_until(lambda: link.read()[1] < 0.001)


@both_transports
def test_a_gripper_that_falls_silent_stops_and_comes_back(own_peer, reaction):
    with HostedGripper(RobotiqConfig(port=own_peer.port)) as gripper:
        own_peer.freeze()  # a gateway that hangs, a bus without power
        reaction("a gripper that answers nothing", lambda: stopped(gripper))
        time.sleep(0.3)  # the gate may have stopped over the age of the state, before the link gave up
        with pytest.raises(DeviceError, match=r"does not answer .* Check its power"):
            gripper.release()
        own_peer.thaw()
        assert wait_until(lambda: goes_on(gripper, 0.05), pause_s=0.1)
        assert wait_until(lambda: abs(width(gripper) - 0.05) < 0.001)


@both_transports
def test_a_killed_peer_stops(own_peer, reaction):
    with HostedGripper(RobotiqConfig(port=own_peer.port)) as gripper:
        own_peer.kill()
        reaction("a killed peer", lambda: stopped(gripper))
        with pytest.raises(DeviceError, match=r"does not answer|the newest state is .* old"):
            go(gripper, 0.0)


@pytest.mark.parametrize("kind", ["pty"])
def test_a_busy_port_names_who_uses_it(peer, gripper):
    link = RobotiqLink(RobotiqConfig(port=peer.port))
    with pytest.raises(DeviceError, match=rf"in use by process {gripper.pid} \(.*End that program"):
        link.open()


@pytest.mark.parametrize("port", ["tcp://127.0.0.31:9", "/dev/ttyUSB77"])
def test_a_gripper_that_is_not_there(port):
    with pytest.raises(DeviceError, match=r"Check the (address|cable)"):
        RobotiqLink(RobotiqConfig(port=port)).open()


def test_another_number_on_the_bus(peer):
    link = RobotiqLink(RobotiqConfig(port=peer.port, unit=4))
    with pytest.raises(DeviceError, match=r"(does not answer|refused).*unit"):
        link.open()
    link.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_port_without_permission_names_the_group():
    code = (
        "import os, serial; from robopolicy_drivers.serial_port import open_serial\n"
        "master, slave = os.openpty(); name = os.ttyname(slave)\n"
        "os.close(slave); os.chmod(name, 0o620); os.chown(name, 0, 20); os.setuid(65534)\n"
        "open_serial(name, 115200, 0.1)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "No permission" in answer.stderr
    assert "sudo usermod -aG dialout $USER" in answer.stderr


def test_without_its_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymodbus", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'robopolicy\[modbus\]'"):
        RobotiqLink(RobotiqConfig(port="tcp://127.0.0.31:9")).open()


def test_a_third_partys_client_finds_what_we_asked_for(own_peer):
    """pyrobotiqgripper and our driver take each other's positions for the same ones."""
    other = pytest.importorskip("pyrobotiqgripper", reason="pyrobotiqgripper is not installed")
    with HostedGripper(RobotiqConfig(port=own_peer.port, **PATIENT)) as gripper:
        go(gripper, 0.03)
        opening = RobotiqConfig().width(RobotiqConfig().count(0.03))
        assert wait_until(lambda: width(gripper) == pytest.approx(opening))
    host, port = own_peer.port.removeprefix("tcp://").split(":")
    client = other.RobotiqGripper(connection_type="RTU_VIA_TCP", tcp_host=host, tcp_port=int(port))
    assert client.isActivated()
    assert RobotiqConfig().width(client.position()) == pytest.approx(opening, abs=0.0005)  # it may still move
    client.start()
    client.move(200)
    client.disconnect()
    with HostedGripper(RobotiqConfig(port=own_peer.port, **PATIENT)) as gripper:
        assert width(gripper) == pytest.approx(RobotiqConfig().width(200), abs=4e-4)


@given(model=st.sampled_from(list(MODELS)), share=st.floats(0.0, 1.0))
def test_an_opening_becomes_the_nearest_count(model, share):
    config = RobotiqConfig(model=model)
    opening = share * config.openings[1]
    resolution = config.openings[1] / (config.closed_count - config.open_count)
    assert abs(config.width(config.count(opening)) - opening) <= 0.5001 * resolution
    assert config.open_count <= config.count(opening) <= config.closed_count


@given(registers=st.lists(st.integers(0, 0xFFFF), min_size=3, max_size=3))
def test_every_status_can_be_read(registers):
    status = Status.of(registers)
    state, _, fault, echo, position, _ = np.array(registers, ">u2").tobytes()
    assert status == (state >> 4 & 3, bool(state & 8), fault & 15, echo, position)


def test_settings_that_no_gripper_has():
    with pytest.raises(UnknownNameError, match="2f85"):
        RobotiqConfig(model="2f-85")
    with pytest.raises(ConfigError, match=r"speed is 0\.5 m/s; this gripper takes 0\.02 to 0\.15"):
        RobotiqConfig(speed=0.5)
    with pytest.raises(ConfigError, match="grows from 0 to 255"):
        RobotiqConfig(open_count=240)
