"""A force sensor at its own rate, from collecting to deployment: the policy was given what training sees."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from robopolicy.checkpoint import load_policy
from robopolicy.policies.configs import BehaviorCloningConfig, MlpConfig, StreamConfig
from robopolicy.training.configs import TrainerConfig
from robopolicy.training.trainer import train
from robopolicy_datasets.clock import seconds_to_ns
from robopolicy_datasets.errors import DeviceError, SpecError
from robopolicy_datasets.history import points_of
from robopolicy_datasets.store import DemoStore, EpisodeInfo
from robopolicy_datasets.stream_samples import StreamSamples
from robopolicy_datasets.windows import HistoryWindow, KeyWindow, WindowSampler
from robopolicy_drivers.arms.arm import Arm
from robopolicy_drivers.composition import CompositeRobot
from robopolicy_drivers.conformance import holding_target
from robopolicy_drivers.realtime.loop import DeadlineLoop
from robopolicy_drivers.runtime.configs import RuntimeConfig
from robopolicy_drivers.runtime.executor import run_episode
from robopolicy_drivers.runtime.observer import Observer
from robopolicy_drivers.runtime.preflight import Candidate, preflight, require_fit
from robopolicy_drivers.runtime.records import StepRecord
from robopolicy_drivers.touch.ati_net_ft import AtiNetFt
from robopolicy_drivers.touch.configs import AtiNetFtConfig
from robopolicy_launch.stages.deployment_store import DeploymentStore

sys.path.append(str(Path(__file__).parents[1] / "drivers"))

from emulated import Emulated
from practice_arm import NumbPracticeArmConfig, PracticeArmConfig

pytestmark = pytest.mark.realtime
HOST, RATE_HZ, KEY = "127.0.0.1", 20.0, "robot0_wrench"
POINTS = 25


class Witness:
    """A policy that remembers what it was given."""

    def __init__(self, policy):
        self._policy, self.given = policy, []

    def __getattr__(self, name):
        return getattr(self._policy, name)

    def infer(self, observation, **further):
        self.given.append({key: value.copy() for key, value in observation.items()})
        return self._policy.infer(observation, **further)


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    """An arm with the emulator of an ATI Net F/T at 1 kHz: every sample differs from all others."""
    with Emulated("net_ft", HOST, 1000) as box:
        port, web_port = map(int, box.told)
        arm = Arm(NumbPracticeArmConfig(folder=str(tmp_path_factory.mktemp("arm"))))
        force = AtiNetFt(AtiNetFtConfig(host=HOST, port=port, web_port=web_port))
        with CompositeRobot([arm, force]) as robot:
            yield robot


@pytest.fixture(scope="module")
def policy(robot, tmp_path_factory):
    """Learned from what was collected with the robot at rest."""
    folder = tmp_path_factory.mktemp("felt")
    observer, loop = Observer(robot, [], robot.spec, 1), DeadlineLoop(RATE_HZ)
    with DeploymentStore(folder / "demos.zarr", robot, [], 1 / RATE_HZ, {}) as store:
        for _ in range(2):
            with store.episode(EpisodeInfo()):
                for step in range(30):
                    loop.wait()
                    time_ns, seen = observer.observe()
                    store.step(StepRecord(step, time_ns, seen, holding_target(robot.spec, seen), "human"))
            store.finish(True)
    config = BehaviorCloningConfig(
        observation_steps=2,
        action_steps=3,
        horizon=8,
        mlp=MlpConfig(width=32, blocks=1),
        observation_keys=["robot0_eef_pos", "robot0_joint_pos"],
        streams={KEY: StreamConfig(POINTS, 0.12)},
    )
    trainer = TrainerConfig(steps=60, batch_size=16, device="cpu", learning_rate=3e-3, ema_decay=0.9)
    train("bc", config, trainer, DemoStore.open(folder / "demos.zarr"), folder / "run")
    return load_policy(folder / "run")


@pytest.mark.parametrize("latency_s", [0.0, 0.03])
def test_what_the_policy_was_given_is_what_training_sees_of_the_recording(robot, policy, latency_s, tmp_path):
    witness = Witness(policy)
    runtime = RuntimeConfig(latencies_s={KEY: latency_s} if latency_s else {})
    with DeploymentStore(tmp_path / "deployed.zarr", robot, [], policy.dt, {}) as store:
        with store.episode(EpisodeInfo()):
            report = run_episode(
                robot, [], witness, duration_s=2.0, seed=0, recorder=store.step, runtime=runtime
            )
        store.finish(None)
    assert report.holds < report.steps / 2
    deployed = DemoStore.open(tmp_path / "deployed.zarr")
    history = policy.spec[KEY]
    (episode,) = deployed
    stream = episode.streams[KEY]
    late_ns = seconds_to_ns(latency_s)
    samples = StreamSamples([(stream.value, stream.time_ns - late_ns)])
    now = episode.time_ns[:, None] + points_of(history)
    expected, _ = samples.at(now, np.zeros(len(now), np.intp))
    given = [observation[KEY][0] for observation in witness.given[2:]]  # after those before the start
    assert len(given) > 5
    steps = [int(np.flatnonzero((expected == newest[-1]).all((1, 2)))[0]) for newest in given]
    assert steps == sorted(set(steps))
    for step, seen in zip(steps, given, strict=True):
        np.testing.assert_array_equal(seen[-1], expected[step])
        np.testing.assert_array_equal(seen[0], expected[max(step - 1, 0)])
    different = [len(np.unique(row)) for row in expected[:, :, 0]]
    assert np.median(different) > 2 + 0.12 * RATE_HZ  # more than reading the newest at each step would tell
    if not latency_s:
        window = HistoryWindow(-1, 2, history=history)
        sampler = WindowSampler(deployed, observation={KEY: window}, action=KeyWindow.future(1))
        trained = sampler.gather(steps)["observation"][KEY]
        np.testing.assert_array_equal(trained, np.stack(given))


def test_an_observation_is_of_a_time_up_to_which_the_sensor_is_known(robot, policy):
    observer = Observer(robot, [], policy.spec, 2)
    pid = robot.members[1].device.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        silent_since = robot.members[1].device.ring.newest().time_ns
        time.sleep(0.2)
        time_ns, _ = observer.observe()
        assert time_ns == silent_since
        time.sleep(0.5)
        with pytest.raises(DeviceError, match=r"too old: .*robot0_wrench \d\.\d+ s"):
            observer.observe()
    finally:
        os.kill(pid, signal.SIGCONT)


def test_the_checks_before_it_moves_ask_for_the_stream(robot, policy, tmp_path):
    findings = {finding.name: finding for finding in preflight(robot, [], [Candidate(policy, "it")])}
    assert all(findings[name].passed for name in ("fit", "policy")), findings
    require_fit(policy, robot, [])
    feeling = Arm(PracticeArmConfig(folder=str(tmp_path)))  # measures a wrench in its base's frame
    numb = Arm(NumbPracticeArmConfig(folder=str(tmp_path)))
    with pytest.raises(SpecError, match="'robot0_wrench' is missing"):
        require_fit(policy, CompositeRobot([numb]), [])
    with pytest.raises(SpecError, match="'robot0_wrench' has frame 'robot0_base' but 'robot0_tcp'"):
        require_fit(policy, CompositeRobot([feeling]), [])


def test_a_simulated_task_is_felt_from_collecting_to_deployment(robopolicy, tmp_path):
    task = ("task=wipe", "task.image_size=20", "task.touch=[wrench]")
    collected = robopolicy("collect", *task, "episodes=2", "output=wipe.zarr", cwd=tmp_path)
    assert collected.returncode == 0, collected.stderr
    stored = DemoStore.open(tmp_path / "wipe.zarr")
    assert [(stream.key, stream.rate_hz) for stream in stored.streams] == [(KEY, 250.0)]
    seen = (f"policy.streams.{KEY}.samples=8", f"policy.streams.{KEY}.seconds=0.2")
    small = ("policy=bc", "recipe=none", "trainer.steps=2", "trainer.batch_size=4", "name=felt")
    trained = robopolicy("train", *task, *small, *seen, "data=wipe.zarr", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    (run,) = (tmp_path / "runs" / "train").glob("*felt")
    judged = robopolicy("eval", str(run), *task, "task.max_steps=9", "episodes=1", "videos=0", cwd=tmp_path)
    assert judged.returncode == 0, judged.stderr
    robot = ("robot=sim", "robot.task=wipe", "robot.image_size=20")
    numb = robopolicy("deploy", str(run), *robot, "episodes=1", "seconds=1", "videos=0", cwd=tmp_path)
    assert numb.returncode != 0
    assert f"'{KEY}' is missing" in numb.stderr
    felt = ("robot.touch=[wrench]", "episodes=1", "seconds=1", "videos=0")
    deployed = robopolicy("deploy", str(run), *robot, *felt, cwd=tmp_path)
    assert deployed.returncode == 0, deployed.stderr
    (store,) = (tmp_path / "runs" / "deploy").glob("*/*/episodes.zarr")
    assert KEY in {stream.key for stream in DemoStore.open(store).streams}
