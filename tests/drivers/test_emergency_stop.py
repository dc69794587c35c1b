"""Claims of robots and stops from other processes: one owner a robot, and what becomes of each stop."""

import os
import signal
import stat
import time

import pytest
from device_targets import fails, wait_until

from robopolicy_datasets.errors import ConfigError, DeviceError
from robopolicy_drivers.emergency_stop import Outcome, RobotClaim, runtime_folder, stop_all
from robopolicy_drivers.realtime.process import DeviceProcess

pytestmark = pytest.mark.realtime


@pytest.fixture(autouse=True)
def folder(tmp_path_factory, monkeypatch):
    """An empty folder of claims, of a name that is short enough for a socket."""
    folder = tmp_path_factory.mktemp("claims")
    folder.chmod(0o700)
    monkeypatch.setenv("ROBOPOLICY_RUNTIME_DIR", str(folder))
    return folder


@pytest.fixture
def start():
    started = []

    def start(robot, target="device_targets:stoppable", arguments=()):
        process = DeviceProcess(target, dict(arguments), name="arm", robot=robot, heartbeat_timeout_s=5.0)
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        process.close(0.5)


def outcomes(reports):
    return {report.robot.name: report.outcome for report in reports}


def test_a_robot_has_one_owner(start):
    first = start("arm 1")
    start("arm 2")
    with pytest.raises(DeviceError, match=f"'arm 1' is in use: process {first.pid} .* {os.getpid()}"):
        start("arm 1")
    first.close()
    again = start("arm 1")
    os.kill(again.pid, signal.SIGKILL)
    assert wait_until(lambda: fails(again))
    start("arm 1")


def test_all_robots_are_stopped_at_once_and_tell_it(start, record_property):
    arms = [start(f"arm {number}") for number in range(3)]
    begun = time.monotonic()
    reports = stop_all("fire")
    milliseconds = 1e3 * (time.monotonic() - begun)
    record_property("stop of three", milliseconds)
    print(f"reaction to a stop of three robots: {milliseconds:.1f} ms")
    assert outcomes(reports) == dict.fromkeys(("arm 0", "arm 1", "arm 2"), Outcome.STOPPED)
    assert [report.robot.pid for report in reports] == [arm.pid for arm in arms]
    assert {report.robot.controller for report in reports} == {os.getpid()}
    assert [arm.request("stops") for arm in arms] == [["fire"]] * 3


def test_what_cannot_be_stopped_is_told(start):
    start("good")
    start("deaf", "device_targets:echo", {"greeting": ""})
    stuck, dead = start("stuck"), start("dead")
    os.kill(stuck.pid, signal.SIGSTOP)
    os.kill(dead.pid, signal.SIGKILL)
    assert wait_until(lambda: fails(dead))
    reports = {report.robot.name: report for report in stop_all("fire", timeout_s=0.3)}
    assert outcomes(reports.values()) == {
        "good": Outcome.STOPPED,
        "deaf": Outcome.FAILED,
        "stuck": Outcome.FAILED,
        "dead": Outcome.DEAD,
    }
    assert "unknown: stop" in reports["deaf"].detail
    assert "no answer within 0.3 s" in reports["stuck"].detail
    assert "dead" not in outcomes(stop_all("fire", timeout_s=0.3))  # told once


def test_a_robot_that_was_closed_is_not_there(start, folder):
    start("arm").close()
    assert stop_all("fire") == []
    assert list(folder.iterdir()) == []


def test_what_is_claimed_is_for_the_user_alone(start, folder, monkeypatch, tmp_path):
    start("arm")
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    folder.chmod(0o755)
    with pytest.raises(DeviceError, match="you alone may open"):
        stop_all("fire")
    folder.chmod(0o700)
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.setenv("ROBOPOLICY_RUNTIME_DIR", str(tmp_path / "link"))
    with pytest.raises(DeviceError, match="you alone may open"):
        runtime_folder()


@pytest.mark.parametrize("name", ["", "..", "x" * 100])
def test_a_name_that_makes_no_file_is_refused(name):
    with pytest.raises(ConfigError, match="cannot be claimed"):
        RobotClaim(name, 0)


def test_a_name_never_leaves_the_folder(folder):
    claim = RobotClaim("../../else/ur5e 192.168.0.2", 0)
    assert {path.suffix for path in folder.iterdir()} == {".lock", ".socket"}
    claim.close()
