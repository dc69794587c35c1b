"""What the sensors of a robot measure between the steps, in the stores of a robot that is driven."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.store import DemoStore, EpisodeInfo
from robopolicy_drivers.arms.arm import Arm
from robopolicy_drivers.composition import CompositeRobot
from robopolicy_drivers.interfaces import RecallsStates
from robopolicy_drivers.realtime.loop import DeadlineLoop
from robopolicy_drivers.runtime.observer import Observer
from robopolicy_drivers.runtime.preflight import preflight
from robopolicy_drivers.runtime.records import StepRecord
from robopolicy_drivers.touch.ati_net_ft import AtiNetFt
from robopolicy_drivers.touch.configs import AtiNetFtConfig, FlexiTacConfig
from robopolicy_drivers.touch.flexitac import FlexiTac
from robopolicy_launch.stages.deployment_store import DeploymentStore

sys.path.append(str(Path(__file__).parents[1] / "drivers"))

from emulated import Emulated
from practice_arm import NumbPracticeArmConfig

pytestmark = pytest.mark.realtime
HOST = "127.0.0.1"
RATE_HZ = 20.0


@pytest.fixture
def cell(tmp_path):
    """An arm without sensors; an arm with a force sensor and a touch pad; and the emulators of both."""
    box, pad = Emulated("net_ft", HOST, 1000), Emulated("flexitac_board", 100)
    port, web_port = map(int, box.told)
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    robot = CompositeRobot(
        [
            *(Arm(NumbPracticeArmConfig(folder=str(folder))) for folder in folders),
            AtiNetFt(AtiNetFtConfig(host=HOST, port=port, web_port=web_port)),
            FlexiTac(FlexiTacConfig(port=pad.told[0])),
        ]
    )
    with robot:
        yield robot, box, pad
    box.close()
    pad.close()


def drive(robot, store, steps, after=lambda step: None):
    """Records steps in which nothing is commanded; ``after`` each, something may happen."""
    observer, loop = Observer(robot, [], robot.spec, 1), DeadlineLoop(RATE_HZ)
    target = np.zeros(robot.spec.action[0].size, np.float32)
    for step in range(steps):
        loop.wait()
        store.step(StepRecord(step, *observer.observe(), target, "human"))
        after(step)


def test_all_samples_are_kept_beside_the_steps(cell, tmp_path):
    robot, box, _ = cell
    with DeploymentStore(tmp_path / "cell.zarr", robot, [], 1 / RATE_HZ, {}) as store:
        for lost in (0, 70):
            with store.episode(EpisodeInfo()):
                drive(robot, store, 30, lambda step, lost=lost: step == 15 and box.tell(f"lose {lost}"))
            store.finish(None)
        assert store.missing >= 70  # late readings of the touch pad may count too
    stored = DemoStore.open(tmp_path / "cell.zarr")
    assert {stream.key for stream in stored.streams} == {
        f"robot{number}_{key}"
        for number in (0, 1)
        for key in ("eef_pos", "eef_rot_axis_angle", "joint_pos", "joint_vel")
    } | {"robot1_wrench", "robot1_tactile0_taxels"}
    for episode, lost in zip(stored, (0, 70), strict=True):
        wrench = episode.streams["robot1_wrench"]
        counts = np.rint(wrench.value[:, 0] * 1e6).astype(int)
        assert sorted(set(np.diff(counts))) == ([1] if not lost else [1, 1 + lost])
        begin, end = episode.time_ns[[0, -1]]
        assert wrench.time_ns[0] < begin
        assert wrench.time_ns[-1] > end
        assert len(counts) > 5 * episode.length
        told = [event.data for event in episode.events if event.data.get("key") == "robot1_wrench"]
        assert told == ([{"key": "robot1_wrench", "missing": lost}] if lost else [])
        # What a step shows lies between the samples around its time, as far as they had come by then.
        after = np.searchsorted(wrench.time_ns, episode.time_ns)
        shown = np.rint(episode.data["robot1_wrench"][:, 0] * 1e6).astype(int)
        assert ((counts[after - 11] <= shown) & (shown <= counts[after])).all()
        joints = episode.streams["robot1_joint_pos"]
        assert len(joints.time_ns) > episode.length
        assert (np.diff(joints.time_ns) > 0).all()


@pytest.mark.soak
@pytest.mark.parametrize("rate_hz", [1000, 7000])
def test_what_was_sent_is_stored_or_told_as_missing(rate_hz, tmp_path):
    box = Emulated("net_ft", HOST, rate_hz)
    port, web_port = map(int, box.told)
    force = AtiNetFt(AtiNetFtConfig(host=HOST, rate_hz=rate_hz, port=port, web_port=web_port))
    robot = CompositeRobot([Arm(NumbPracticeArmConfig(folder=str(tmp_path))), force])
    with robot, DeploymentStore(tmp_path / "cell.zarr", robot, [], 1 / RATE_HZ, {}) as store:
        with store.episode(EpisodeInfo()):
            drive(robot, store, 200)
        store.finish(None)
    box.close()
    counts = np.rint(DemoStore.open(tmp_path / "cell.zarr").stream("robot0_wrench", 0).value[:, 0] * 1e6)
    sent = int(counts[-1] - counts[0]) + 1
    print(f"told {rate_hz} Hz: {sent} sent, {len(counts)} stored, {store.missing} told as missing")
    assert sent == len(counts) + store.missing


def test_a_sensor_recalls_what_it_measured(cell):
    robot, _, _ = cell
    force = robot.members[2].device
    assert isinstance(force, RecallsStates)
    time.sleep(0.2)
    earlier, later = force.ring.history(100)[::99]
    for record in (earlier, later):
        at_ns, sample = force.state_at(record.time_ns)
        assert at_ns == record.time_ns
        np.testing.assert_array_equal(sample["robot0_wrench"], record.data["robot0_wrench"])
    _, seen = robot.state_at(earlier.time_ns)
    np.testing.assert_array_equal(seen["robot1_wrench"], earlier.data["robot0_wrench"])
    with pytest.raises(DeviceError, match="not connected"):
        AtiNetFt(AtiNetFtConfig()).state_at(later.time_ns)


def test_ages_are_told_for_each_device(cell):
    robot, _, _ = cell
    (found,) = [finding for finding in preflight(robot, [], []) if finding.name == "state"]
    assert found.passed
    for name in ("robot0", "robot1", "robot1_wrench", "robot1_tactile0_taxels"):
        assert f"{name}: alive, " in found.text


def test_a_sensor_that_dies_ends_the_episode_which_is_kept(cell, tmp_path):
    robot, _, _ = cell
    victim = robot.members[2].device.pid
    with (
        DeploymentStore(tmp_path / "cell.zarr", robot, [], 1 / RATE_HZ, {}) as store,
        pytest.raises(DeviceError, match="ATI Net F/T"),
        store.episode(EpisodeInfo()),
    ):
        drive(robot, store, 200, lambda step: step == 10 and os.kill(victim, signal.SIGKILL))
    (episode,) = DemoStore.open(tmp_path / "cell.zarr")
    assert 11 <= episode.length < 200
    (fault,) = [event.text for event in episode.events if event.kind == "fault"]
    assert "ATI Net F/T" in fault
    assert len(episode.streams["robot1_wrench"].time_ns) > 5 * episode.length


def test_a_device_that_falls_silent_is_named(cell):
    robot, _, _ = cell
    observer = Observer(robot, [], robot.spec, 1)
    observer.observe()
    silent = robot.members[3].device.pid
    os.kill(silent, signal.SIGSTOP)
    try:
        time.sleep(0.7)
        with pytest.raises(DeviceError, match=r"too old: .*robot1_tactile0_taxels \d\.\d+ s"):
            observer.observe()
    finally:
        os.kill(silent, signal.SIGCONT)
