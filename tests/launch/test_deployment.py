"""``robopolicy deploy``: what is looked at first, and what is kept when something fails on the way."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest

from robopolicy_datasets.store import EpisodeInfo
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_drivers.calibration.latency import DeviceLatency, LatencyModel
from robopolicy_drivers.runtime.configs import RuntimeConfig
from robopolicy_drivers.runtime.preflight import offered_spec
from robopolicy_drivers.runtime.records import StepRecord
from robopolicy_launch.stages.deployment_store import DeploymentStore
from robopolicy_launch.verbs import deploy
from robopolicy_sim.configs import SimulatedRobotConfig
from robopolicy_sim.robot import make_robot

pytestmark = pytest.mark.realtime


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "robopolicy_launch", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kept(runs: Path) -> DemoStore:
    (folder,) = (runs / "deploy").iterdir()
    return DemoStore.open(folder / "deployment" / "episodes.zarr")


def until_it_moves(process: subprocess.Popen[str], runs: Path) -> list[str]:
    """Waits until the checks are over and some steps are done; returns the lines that were told."""
    told = [process.stdout.readline()]
    while told[-1] and "policy " not in told[-1]:
        told.append(process.stdout.readline())
    time.sleep(3.0)
    return told


def test_what_was_done_is_a_demo_store(robopolicy, checkpoint, tmp_path):
    words = ("deploy", str(checkpoint), "episodes=2", "seconds=2", "videos=0", f"runs={tmp_path}")
    result = robopolicy(*words)
    assert result.returncode == 0, result.stderr
    for look in ("fit", "state", "camera 0", "commands", "stop", "limits", "policy"):
        assert f"  ok  {look} " in result.stdout
    store = kept(tmp_path)
    assert len(store) == 2
    assert store.rate_hz == 10
    for index in range(2):
        episode = store.episode(index)
        assert 15 <= len(episode.data["action"]) <= 20
        assert episode.info.success is False
        assert episode.data["camera0_rgb"].std() > 5
    assert robopolicy("data", "check", str(store.path)).returncode in (0, 1)


def test_measured_latencies_are_reckoned_with(tmp_path):
    seconds = {"robot": 0.05, "gripper": 0.09, "camera0_rgb": 0.12, "camera1_rgb": -0.001}
    devices = {name: DeviceLatency.of([value], "today") for name, value in seconds.items()}
    model = LatencyModel(devices | {"inference": DeviceLatency(0.1, 0.2, 50, "today")})
    (tmp_path / "latency.json").write_text(model.to_json())
    settings = deploy.Settings(checkpoint="x", latency=str(tmp_path / "latency.json"), robot=None)
    settings.runtime.latencies_s = {"camera1_rgb": 0.02}  # what is said beats what was measured
    runtime = deploy._runtime(settings)
    assert runtime.action_latency_s == 0.05
    assert runtime.inference_latency_s == 0.2  # what a schedule that must rarely be late reckons with
    assert runtime.latencies_s == {"camera0_rgb": 0.12, "camera1_rgb": 0.02}
    assert deploy._runtime(deploy.Settings(checkpoint="x", robot=None)) == RuntimeConfig()


def test_on_a_terminal_the_episode_can_be_watched(checkpoint, tmp_path):
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))  # rows and columns
    words = ("deploy", str(checkpoint), "episodes=1", "seconds=3", "videos=0", f"runs={tmp_path}")
    process = subprocess.Popen(
        [sys.executable, "-m", "robopolicy_launch", *words], stdout=subprocess.DEVNULL, stderr=inside
    )
    os.close(inside)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal is gone when the process is
        while piece := os.read(terminal, 4096):
            shown += piece
    os.close(terminal)
    assert process.wait() == 0
    steps = {int(step) for step in re.findall(rb"step (\d+), (?:fresh|hold)", shown)}
    assert len(steps) >= 3


@pytest.mark.parametrize(
    ("number", "code", "fault"), [(signal.SIGKILL, 1, "policy"), (None, 130, "KeyboardInterrupt")]
)
def test_an_episode_that_ends_with_an_error_is_kept_with_its_reason(
    checkpoint, tmp_path, number, code, fault
):
    """The server is killed, or a person presses Ctrl-C."""
    server = start("serve", str(checkpoint), "port=0")
    address = server.stdout.readline().split()[2]
    words = ("deploy", f"server={address}", "episodes=1", "seconds=60", "videos=0", f"runs={tmp_path}")
    process = start(*words)
    try:
        until_it_moves(process, tmp_path)
        if number is None:
            process.send_signal(signal.SIGINT)
        else:
            server.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        server.kill()
    assert process.returncode == code
    assert len(errors.splitlines()) == 1
    store = kept(tmp_path)
    assert len(store) == 1
    episode = store.episode(0)
    assert len(episode.data["action"]) > 10
    assert episode.info.success is None
    kinds = {event.kind: event for event in episode.events}
    assert {"safety", "fault"} <= set(kinds)
    assert any(event.data.get("limit") == "stop" for event in episode.events)
    assert kinds["fault"].author == "executor"
    assert fault in kinds["fault"].text


def test_a_step_that_sees_what_the_one_before_saw_is_kept_too(tmp_path):
    robot = make_robot(SimulatedRobotConfig(image_size=8))
    spec = offered_spec(robot, robot.cameras)
    observation = {feature.key: np.zeros(feature.shape, feature.dtype) for feature in spec.observation}
    times = [100, 200, 200, 200, 300]  # a camera lagged
    with DeploymentStore(tmp_path / "s.zarr", robot, robot.cameras, 0.1, {}) as store:
        for _ in range(2):  # each episode begins anew
            with store.episode(EpisodeInfo()):
                for step, time_ns in enumerate(times):
                    action = np.full(7, step, np.float32)
                    store.step(StepRecord(step, time_ns, observation, action, "fresh"))
                store.finish(True)
    kept = DemoStore.open(tmp_path / "s.zarr")
    for index in range(2):
        np.testing.assert_array_equal(kept.episode(index).data["action"][:, 0], range(len(times)))
