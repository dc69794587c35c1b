"""Worker processes: the same episodes whatever their number, and deaths that are told."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from robopolicy_datasets.errors import ConfigError, SimulationError
from robopolicy_sim.demonstrating import demonstrations
from robopolicy_sim.rollout import rollout
from robopolicy_sim.rollout_speed import RolloutSpeed
from robopolicy_sim.tasks.configs import PickPlaceConfig, PushTStateConfig
from robopolicy_sim.worker import Worker

pytest.importorskip("gym_pusht", reason="the extra 'pusht' is not installed")
from push_policy import PushPolicy, numbers
from worker_environments import fail_late

SEEDS = range(100_000, 100_009)


@pytest.fixture(autouse=True)
def no_process_is_left():
    yield
    assert not multiprocessing.active_children()


def fragile(*, deadly=(), failing=(), wrong=(), broken="", max_steps=20) -> SimpleNamespace:
    return SimpleNamespace(
        target="worker_environments:FragileEnv",
        deadly=deadly,
        failing=failing,
        wrong=wrong,
        broken=str(broken),
        max_steps=max_steps,
    )


def test_results_do_not_depend_on_the_workers():
    config, alone = PushTStateConfig(max_steps=40), PushPolicy()
    expected = rollout(alone, config, SEEDS, batch_size=5)
    assert len({each.score for each in expected}) > 3
    for workers in (2, 7):
        policy, done = PushPolicy(), []
        results = rollout(policy, config, SEEDS, batch_size=5, workers=workers, progress=done.append)
        assert numbers(results) == numbers(expected)
        # The policy, too, is asked the same in the same calls.
        assert policy.seeds == alone.seeds
        for call, same_call in zip(policy.calls, alone.calls, strict=True):
            assert all(np.array_equal(call[key], same_call[key]) for key in call)
        assert sorted(each.seed for each in done) == list(SEEDS)


def test_videos_come_from_workers_too():
    config = PushTStateConfig(max_steps=5)
    here, there = (
        rollout(PushPolicy(), config, [3, 4, 5], video_seeds=[4], workers=workers) for workers in (1, 2)
    )
    assert there[0].frames is None
    assert np.array_equal(np.stack(there[1].frames or []), np.stack(here[1].frames or []))


def test_images_are_drawn_in_every_worker():
    pytest.importorskip("mujoco", reason="the extra 'sim' is not installed")
    from robopolicy_sim.tasks.pick_place import PickPlaceEnv

    config = PickPlaceConfig(image_size=16, max_steps=4)
    env = PickPlaceEnv(config)
    target = np.array([0.4, 0.1, 0.2, np.pi, 0.0, 0.0, 0.05])

    class Still:
        spec, dt, observation_steps, action_steps = env.data_spec, env.dt, 2, 2

        def reset(self):
            self.seen = []

        def infer(self, observation, *, seeds=None):
            self.seen.append(observation)
            return np.tile(target, (len(seeds), 2, 1))

    seen = []
    for workers in (1, 2):
        policy = Still()
        rollout(policy, config, [0, 1, 2], workers=workers)
        seen.append(policy.seen)
    for here, there in zip(*seen, strict=True):
        assert all(np.array_equal(here[key], there[key]) for key in here)


def test_the_episodes_of_a_dead_worker_fail_with_the_cause():
    config = fragile(deadly=(3,), failing=(4,))
    results = rollout(PushPolicy(), config, range(12), batch_size=4, workers=2)
    errors = {each.seed: each.error for each in results if each.error}
    # Seed 3 lies beside seed 1 in the second worker; those after them have a new one.
    assert set(errors) == {1, 3, 4}
    assert errors[1] == errors[3] == "The worker process was ended by SIGKILL."
    assert errors[4] == "physics became unstable"
    healthy = [seed for seed in range(12) if seed not in errors]
    expected = rollout(PushPolicy(), PushTStateConfig(max_steps=20), healthy)
    assert numbers([each for each in results if not each.error]) == numbers(expected)


def test_where_no_other_worker_can_start_the_episodes_fail(tmp_path):
    config = fragile(deadly=(1,), broken=tmp_path / "broken")
    results = rollout(PushPolicy(), config, range(6), batch_size=2, workers=2)
    assert {each.seed for each in results if each.error is None} >= {0}
    assert results[1].error == "The worker process was ended by SIGKILL."
    assert "there is no world any more" in [each.error for each in results]


def test_what_fails_at_once_is_raised(tmp_path):
    (tmp_path / "broken").touch()
    with pytest.raises(SimulationError, match="there is no world any more"):
        rollout(PushPolicy(), fragile(broken=tmp_path / "broken"), range(2), workers=2)
    with pytest.raises(SimulationError, match=r"(?s)Traceback.*ValueError: a mistake in the program"):
        rollout(PushPolicy(), fragile(wrong=(1,)), range(2), workers=2)
    with pytest.raises(ConfigError, match="cannot be handed to a worker process"):
        rollout(PushPolicy(), lambda: None, range(2), workers=2)
    with pytest.raises(ConfigError, match="workers=0"):
        rollout(PushPolicy(), PushTStateConfig(), range(2), workers=0)
    with pytest.raises(ConfigError, match="workers is 0"):
        demonstrations(None, None, 0, workers=0)


def test_a_worker_that_fails_when_another_has_failed_already_is_quiet(capfd):
    worker = Worker(fail_late)
    assert worker.receive() == "begun"
    worker.close()  # as where the first error is raised
    assert capfd.readouterr().err == ""


def test_the_speed_of_roll_outs_counts_their_steps():
    task = PushTStateConfig(max_steps=20)
    for workers in (1, 2):
        with RolloutSpeed(task, workers=workers, environments=2) as speed:
            # The fourth round is the first of the next episode.
            assert [speed._round() for _ in range(4)] == [16, 16, 8, 16]
            assert speed.measure(1) > 0
    with pytest.raises(ConfigError, match="at least 1"):
        RolloutSpeed(task, workers=0)


def teleop(deadly=-1) -> SimpleNamespace:
    return SimpleNamespace(target="worker_environments:demonstrate", deadly=deadly)


def test_demonstrations_do_not_depend_on_the_workers():
    here, there = (
        list(itertools.islice(demonstrations(teleop(), None, 1, workers=workers), 6)) for workers in (1, 3)
    )
    assert [info.task for _, info in there] == ["2", "4", "6", "8", "10", "12"]
    for (data, info), (other, other_info) in zip(here, there, strict=True):
        assert info == other_info
        assert np.array_equal(data["action"], other["action"])


def test_a_demonstrator_that_dies_is_told():
    made = demonstrations(teleop(deadly=4), None, 1, workers=2)
    with pytest.raises(SimulationError, match="SIGKILL"):
        list(itertools.islice(made, 6))


def test_workers_end_with_their_parent(tmp_path):
    program = (
        "import os, sys, time\n"
        "from robopolicy_sim.tasks.configs import PushTStateConfig\n"
        "from robopolicy_sim.worker_seats import WorkerSeats\n"
        "if __name__ == '__main__':\n"
        "    seats = WorkerSeats(PushTStateConfig(), 2, (), 1, workers=2)\n"
        "    print(*(worker._process.pid for worker in seats._workers.values()), flush=True)\n"
        "    time.sleep(1000)\n"
    )
    (tmp_path / "program.py").write_text(program)
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py")], stdout=subprocess.PIPE, text=True
    )
    pids = [int(word) for word in parent.stdout.readline().split()]
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert len(pids) == 2
    assert any(not any(map(alive, pids)) or time.sleep(0.02) for _ in range(1000))


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()
