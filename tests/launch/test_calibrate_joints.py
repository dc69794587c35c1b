"""``devices calibrate joints`` as a person does it, whose hand turns the shafts of an own emulator."""

import sys
import threading
import time
from pathlib import Path

import pytest

from robopolicy_drivers.arms.feetech import servo_names
from robopolicy_drivers.calibration.joints import load_joints
from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_launch import command
from robopolicy_launch.verbs.devices import calibrating_joints

pytest.importorskip("scservo_sdk", reason="the extra 'feetech' is not installed")

sys.path.append(str(Path(__file__).parents[1] / "drivers"))

from emulated import Emulated

pytestmark = pytest.mark.realtime
NAMES = servo_names(load_embodiment("so101"))


@pytest.fixture
def bus():
    with Emulated("feetech_servos", "1=4090") as bus:
        yield bus


def calibrate(bus, file):
    return command.main(
        [
            "devices",
            "calibrate",
            "joints",
            "robot=so101",
            f"robot.port={bus.told[0]}",
            f"robot.calibration={file}",
        ]
    )


def test_joints_that_a_hand_moves_are_calibrated(bus, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(calibrating_joints, "QUIET_S", 0.5)

    def hand():
        time.sleep(1.0)
        for way in (830, 830, -830, -830, -830, -830, 830, 830):  # each less than what counts as a jump
            for servo in NAMES:
                bus.say(f"push {servo} {way}")
            time.sleep(abs(way) / 4000 + 0.1)

    moving = threading.Thread(target=hand)
    moving.start()
    assert calibrate(bus, tmp_path / "arm.json") == 0
    moving.join()
    printed = capsys.readouterr().out
    assert "6 of 6" in printed
    assert "hold the arm" in printed
    joints = load_joints(tmp_path / "arm.json", "so101", NAMES)
    assert all(abs(joint.middle - 2048) <= 1 for joint in joints)


def test_an_arm_that_nobody_moves_is_not_calibrated(bus, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(calibrating_joints, "PATIENCE_S", 0.5)
    assert calibrate(bus, tmp_path / "arm.json") == 1
    assert "these joints were not moved from stop to stop: shoulder_pan" in capsys.readouterr().err
    assert not (tmp_path / "arm.json").exists()


def test_a_robot_without_such_joints_is_refused(capsys):
    assert command.main(["devices", "calibrate", "joints", "robot=sim"]) == 1
    assert "This is for: so101" in capsys.readouterr().err
