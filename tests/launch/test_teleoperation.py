"""Persons who drive robots through their drivers: recording, replay, and taking over from a policy.

The robot is the simulated one, in processes of its own; the SpaceMouse is an own emulator of Linux's hidraw.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_drivers.teleop.configs import ReplayConfig
from robopolicy_launch import command
from robopolicy_launch.stages.teleoperating import operated
from robopolicy_sim.experts.configs import ScriptedConfig

sys.path.append(str(Path(__file__).parents[1] / "drivers"))
sys.path.append(str(Path(__file__).parents[1] / "drivers" / "emulators"))

from franka_peer import franka_peer
from hid_puck import HidPuck

pytestmark = pytest.mark.realtime

AWAY, LEFT = (0, -350, 0, 0, 0, 0), (-350, 0, 0, 0, 0, 0)
GRIPPER_OR_TAKE_OVER, SUCCESS_OR_DISCARD = 0, 1
LONG = 0.8  # [s]


@pytest.fixture
def puck(tmp_path):
    puck = HidPuck(tmp_path)
    yield puck
    puck.unplug()


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "robopolicy_launch", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
    )


def until_it_is_read(process: subprocess.Popen[str], puck: HidPuck) -> None:
    """Waits until a command has opened the puck."""
    puck.move(0, 0, 0, 0, 0, 0)
    while puck.waiting():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    time.sleep(0.3)  # the robot's first control steps


def with_puck(puck: HidPuck, runs: Path) -> tuple[str, ...]:
    return "teleop=spacemouse", f"teleop.path={puck.path}", f"runs={runs}"


def test_a_robot_is_driven_recorded_and_driven_once_more(puck, robopolicy, tmp_path):
    """One episode is thrown away, one is kept; in a third the device is unplugged."""
    output = tmp_path / "mine.zarr"
    words = ("episodes=2", "instruction=push away", f"output={output}")
    process = start("collect", *with_puck(puck, tmp_path), "robot=sim", *words)
    until_it_is_read(process, puck)
    puck.push(*LEFT, seconds=0.3)  # not recorded
    puck.press(GRIPPER_OR_TAKE_OVER, LONG)
    puck.push(*LEFT, seconds=0.3)
    puck.press(SUCCESS_OR_DISCARD, LONG)
    time.sleep(1.0)  # the robot is put back
    puck.press(GRIPPER_OR_TAKE_OVER, LONG)
    puck.push(*AWAY, seconds=1.0)
    puck.press(GRIPPER_OR_TAKE_OVER)
    time.sleep(0.5)
    puck.press(SUCCESS_OR_DISCARD)
    time.sleep(1.0)
    puck.press(GRIPPER_OR_TAKE_OVER, LONG)
    puck.push(*AWAY, seconds=0.3)
    puck.move(*AWAY)
    puck.unplug()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "SpaceMouse was unplugged" in told
    assert "The robot holds. 1 of 2 demonstrations are in" in told

    store = DemoStore.open(output)
    assert len(store) == 1
    info, action = store.episode_info(0), store.array("action")
    assert (info.task, info.operator, info.success) == ("push away", "spacemouse", True)
    moved = action[-1] - action[0]
    assert 0.03 < moved[0] < 0.15 * 0.1 * len(action) + 0.02  # at most 0.15 m/s
    np.testing.assert_allclose(action[:, 1:3], action[:1, 1:3].repeat(len(action), 0), atol=1e-3)
    assert action[0, 6] == pytest.approx(0.085)
    assert action[-1, 6] == 0.0
    np.testing.assert_allclose(store.array("robot0_eef_pos")[-1], action[-1, :3], atol=0.02)

    again = tmp_path / "again.zarr"
    words = ("teleop=replay", f"teleop.store={output}", "robot=sim", "episodes=5", f"output={again}")
    result = robopolicy("collect", *words, f"runs={tmp_path}")
    assert result.returncode == 0, result.stderr
    replayed = DemoStore.open(again)
    assert len(replayed) == 1  # as many as there are
    assert abs(replayed.num_steps - store.num_steps) <= 2
    for row in (0, -1):
        np.testing.assert_allclose(replayed.array("action")[row, :3], action[row, :3], atol=0.01)
        np.testing.assert_allclose(replayed.array("action")[row, 6], action[row, 6], atol=1e-6)


@pytest.mark.soak
def test_an_arm_with_a_hand_is_recorded_over_its_vendors_protocol(puck, tmp_path):
    """A Franka and its hand, as one robot, on a third party's peer."""
    pytest.importorskip("franky", reason="the extra 'franka' is not installed")
    peer, output = franka_peer(), tmp_path / "franka.zarr"
    parts = [("arm", "franka"), ("hand", "franka_hand")]
    robot = [
        word
        for part, driver in parts
        for word in (f"robot.parts.{part}.driver={driver}", f"robot.parts.{part}.host={peer.host}")
    ]
    words = ("robot=composite", *robot, "rate_hz=20", "episodes=1", f"output={output}")
    process = start("collect", *with_puck(puck, tmp_path), *words)
    try:
        until_it_is_read(process, puck)
        puck.press(GRIPPER_OR_TAKE_OVER, LONG)
        puck.push(*LEFT, seconds=0.7)
        puck.press(GRIPPER_OR_TAKE_OVER)
        time.sleep(1.5)
        puck.press(SUCCESS_OR_DISCARD)
        _, told = process.communicate(timeout=60)
        assert process.returncode == 0, told
    finally:
        process.kill()
        peer.close()
    store = DemoStore.open(output)
    assert store.spec.action[0].kind == "pose_width"
    positions, widths = store.array("robot0_eef_pos"), store.array("robot0_gripper_width")
    moved = positions[-1] - positions[0]
    assert moved[1] > 0.03
    np.testing.assert_allclose(moved[[0, 2]], 0.0, atol=0.01)
    assert abs(widths[-1] - widths[0]) > 0.02
    commanded = store.array("action")[:, :3]
    np.testing.assert_allclose(positions[-1], commanded[-1], atol=0.01)
    far = {
        steps: np.linalg.norm(positions[steps:] - commanded[: len(commanded) - steps], axis=1).max()
        for steps in range(10)
    }
    behind = min(far, key=lambda steps: far[steps])
    print(f"the tool is {50 * behind} ms behind, and then at most {1e3 * far[behind]:.1f} mm away")


def test_a_person_takes_over_hands_back_and_ends_the_episode(puck, checkpoint, tmp_path):
    words = ("deploy", str(checkpoint), "episodes=2", "seconds=60", "videos=0")
    process = start(*words, *with_puck(puck, tmp_path), "robot=sim")
    until_it_is_read(process, puck)
    time.sleep(1.5)  # the policy drives
    puck.press(GRIPPER_OR_TAKE_OVER, LONG)
    puck.push(0, 0, -350, 0, 0, 0, seconds=1.0)
    puck.press(GRIPPER_OR_TAKE_OVER, LONG)
    time.sleep(1.5)
    puck.press(SUCCESS_OR_DISCARD)
    time.sleep(3.0)
    puck.press(SUCCESS_OR_DISCARD, LONG)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    (folder,) = (tmp_path / "deploy").iterdir()
    store = DemoStore.open(folder / "deployment" / "episodes.zarr")
    assert [store.episode_info(index).success for index in range(2)] == [True, False]
    (event,) = [event for event in store.events(0) if event.kind == "takeover"]
    human = np.array(event.data["human"])
    assert human[-1, 2] > human[0, 2] + 0.03  # it was pulled up
    assert any(policy is not None for policy in event.data["policy"])

    # No bump: neither where the person takes hold nor where the policy goes on.
    episode = store.episode(0)
    action, times = episode.data["action"], episode.time_ns
    steps = np.linalg.norm(np.diff(action[:, :3], axis=0), axis=1)
    for moment in (event.start_ns, event.end_ns):
        near = np.abs(times[1:] - moment) < 300_000_000
        assert near.any()
        assert steps[near].max() < 0.151  # 1.5 m/s, the runtime's limit
    begin = int(np.searchsorted(times, event.start_ns))
    np.testing.assert_allclose(human[0, :3], action[begin - 1, :3], atol=0.02)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (ReplayConfig(), "nobody can take a robot over"),
        (ScriptedConfig(), "drives no robot; these do: gamepad"),
    ],
)
def test_what_cannot_take_over_is_refused(config, told):
    with pytest.raises(ConfigError, match=told), operated(config, None):
        pass


def test_a_device_is_checked_by_itself(puck, capsys):
    words = ["devices", "check", "teleop=spacemouse", f"teleop.path={puck.path}", "seconds=0.3"]
    assert command.main(words) == 0
    told = capsys.readouterr().out
    assert "ok  read() has twist: float64[6]" in told
    assert "twist, engaged, presses" in told


def test_a_robot_is_driven_by_one_person(tmp_path, capsys):
    words = ["collect", "teleop=keyboard", "robot=sim", "workers=2", f"runs={tmp_path}"]
    assert command.main(words) == command.FAILED
    assert "give workers=1" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["replay", "scripted"])
def test_what_nobody_holds_cannot_be_checked(name, capsys):
    assert command.main(["devices", "check", f"teleop={name}"]) == command.FAILED
    assert f"teleop={name} is nothing that a person holds" in capsys.readouterr().err
