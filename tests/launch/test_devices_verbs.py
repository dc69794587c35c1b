"""The verbs on devices as a user types them, on the simulated robot."""

import json
import subprocess
import sys

import pytest

from robopolicy_drivers.calibration.latency import load_latency
from robopolicy_launch import command
from robopolicy_sim.robot import SimulatedCamera

pytestmark = pytest.mark.realtime


def test_list_shows_every_device_and_what_it_was_tested_against(capsys, tmp_path):
    assert command.main(["devices", "list", f"json={tmp_path / 'devices.json'}"]) == 0
    printed = capsys.readouterr().out
    for text in ("robot", "sim", "ready", "own emulator", "RTDE 2", "teleop", "scripted", "ur5e"):
        assert text in printed
    content = json.loads((tmp_path / "devices.json").read_text())
    (robot,) = [
        device for device in content["devices"] if (device["kind"], device["name"]) == ("robot", "sim")
    ]
    assert robot["settings"]["image_size"] == 64
    assert robot["settings"]["safety"]["step_m"] == 0.5
    assert "ur5e" in content["embodiments"]


LIST_WITHOUT_MUJOCO = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("mujoco", "gymnasium"):
            raise ModuleNotFoundError(f"blocked: {name}", name=name)

sys.meta_path.insert(0, Absent())
from robopolicy_launch.command import main
sys.exit(main(["devices", "list"]))
"""


def test_list_names_the_extra_that_is_missing():
    result = subprocess.run(
        [sys.executable, "-c", LIST_WITHOUT_MUJOCO], capture_output=True, text=True, check=True
    )
    (line,) = [line for line in result.stdout.splitlines() if " sim " in line]
    assert "pip install 'robopolicy[sim]'" in line


def test_check_tells_what_it_checked_and_the_rates(capsys):
    assert command.main(["devices", "check", "robot=sim", "seconds=0.5"]) == 0
    printed = capsys.readouterr().out
    for text in (
        "a command after stop() is refused",
        "read() has camera1_rgb",
        "rate [Hz]",
        "ticks of its own",
    ):
        assert text in printed


def test_check_fails_where_a_device_does_not_conform(capsys, monkeypatch):
    read = SimulatedCamera.read

    def brighter(self):
        time_ns, images = read(self)
        return time_ns, {key: image / 255 for key, image in images.items()}

    monkeypatch.setattr(SimulatedCamera, "read", brighter)
    assert command.main(["devices", "check", "robot=sim", "seconds=0.5"]) == command.FAILED
    assert "Expected: read() has camera0_rgb: uint8" in capsys.readouterr().err


def test_latency_writes_what_deploy_reads(checkpoint, capsys, tmp_path):
    words = ["robot=sim", "repeats=1", "seconds=3", "cycles=3", f"output={tmp_path / 'latency.json'}"]
    words.append(f"checkpoint={checkpoint}")
    assert command.main(["devices", "latency", *words, f"runs={tmp_path / 'runs'}"]) == 0
    model = load_latency(tmp_path / "latency.json")
    assert set(model.devices) == {"robot", "gripper", "camera0_rgb", "camera1_rgb", "inference"}
    assert 0 < model["inference"].median_s <= model["inference"].p95_s < 1
    assert model["inference"].samples == 50
    assert 0.0 < model["robot"].median_s < 0.3
    (folder,) = (tmp_path / "runs" / "devices-latency").iterdir()
    assert load_latency(folder / "latency.json") == model
    assert "The last motion of the gripper" in (folder / "report.html").read_text()
    figures = json.loads((folder / "summary.json").read_text())
    assert figures["robot_median_ms"] == pytest.approx(1e3 * model["robot"].median_s)


def test_a_robot_that_cannot_move_that_way_is_an_error(capsys, tmp_path):
    words = ["robot=sim", "repeats=1", "seconds=2", "cycles=2", "entry=6", "amplitude=0.03"]
    assert command.main(["devices", "latency", *words, f"runs={tmp_path}"]) == command.FAILED
    assert "give the amplitude the other sign" in capsys.readouterr().err
