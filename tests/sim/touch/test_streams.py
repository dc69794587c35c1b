"""Streams of simulated sensors: from the physics' own steps, in stores and in what policies see alike."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_datasets.history import history_of, with_histories
from robopolicy_datasets.store import DemoStore
from robopolicy_datasets.windows import HistoryWindow, KeyWindow, WindowSampler
from robopolicy_drivers.conformance import holding_target
from robopolicy_drivers.realtime.loop import DeadlineLoop
from robopolicy_drivers.runtime.observer import Observer
from robopolicy_sim.configs import SimulatedRobotConfig
from robopolicy_sim.experts.configs import ScriptedConfig
from robopolicy_sim.experts.surface import SurfaceExpert
from robopolicy_sim.robot import SimulatedRobot
from robopolicy_sim.rollout import rollout
from robopolicy_sim.tasks.configs import WipeConfig
from robopolicy_sim.tasks.wipe import WipeEnv

KEY, MS = "robot0_wrench", 1_000_000
FELT = WipeConfig(image_size=8, touch=["wrench", "markers"], max_steps=60)
SHOWN = SimpleNamespace(samples=20, seconds=0.15)


class Actions:
    """A policy that plays given actions, one at a time, and remembers what it was given."""

    observation_steps, action_steps, dt = 2, 1, 0.1

    def __init__(self, spec, actions):
        self.spec, self._actions, self.given = spec, actions, []

    def reset(self):
        self.given.clear()

    def infer(self, observation, *, seeds=None):
        self.given.append(observation)
        return self._actions[len(self.given) - 1][None, None]


def demonstrate(env, listen, steps=45):
    """Plays an expert's actions up to where it presses; returns states, actions and streams."""
    env.listen(listen)
    env.reset(seed=3)
    expert = SurfaceExpert(env.world, ScriptedConfig(0.0, 0.0), np.random.default_rng(0))
    rows, actions = [], []
    observation, _ = env.reset(seed=3)
    for _ in range(steps):
        actions.append(expert.act())
        rows.append(observation)
        observation, *_ = env.step(actions[-1])
    return rows, np.stack(actions), env.heard(), env.world.get_physics_state()


@pytest.fixture(scope="module")
def played():
    env = WipeEnv(FELT)
    return env, *demonstrate(env, [stream.key for stream in env.streams])


def test_samples_are_of_each_time_step_and_change_nothing(played):
    env, _, _, streams, state = played
    rates = {stream.key: stream.rate_hz for stream in env.streams}
    assert (rates[KEY], rates["robot0_tactile0_markers"]) == (250.0, 25.0)
    assert streams[KEY].time_ns.tolist() == list(range(0, 4500 * MS + 1, 4 * MS))
    assert len(streams["robot0_tactile1_markers"].time_ns) == 4500 // 40 + 1
    assert np.linalg.norm(streams[KEY].value[:, :3], axis=1).max() > 1.0  # it has touched
    *_, deaf, unheard = demonstrate(WipeEnv(FELT), [])
    assert deaf == {}
    np.testing.assert_array_equal(unheard, state)


def test_a_roll_out_sees_what_a_training_on_the_recording_sees(played, tmp_path):
    env, rows, actions, streams, _ = played
    spec = with_histories(env.data_spec, env.streams, {KEY: SHOWN}, "task")
    policy = Actions(spec, actions)
    rollout(policy, replace(FELT, max_steps=len(actions)), [3])
    store = DemoStore.create(tmp_path / "a.zarr", env.data_spec, rate_hz=10, streams=env.streams)
    data = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    store.append_episode({**data, "action": actions}, streams=streams)
    window = HistoryWindow(-1, 2, history=spec[KEY])
    sampler = WindowSampler(store, observation={KEY: window}, action=KeyWindow.future(1))
    trained = sampler.gather(np.arange(len(policy.given)))["observation"][KEY]
    given = np.concatenate([observation[KEY] for observation in policy.given])
    assert given.shape == (len(actions), 2, 20, 6)
    np.testing.assert_array_equal(given, trained)


def test_a_task_without_the_sensor_is_refused():
    spec = with_histories(WipeEnv(FELT).data_spec, WipeEnv(FELT).streams, {KEY: SHOWN}, "task")
    with pytest.raises(SpecError, match=f"'{KEY}' is missing"):
        rollout(Actions(spec, []), replace(FELT, touch=[]), [3])


@pytest.mark.realtime
def test_a_simulated_robot_feels_at_the_rate_of_its_control():
    with pytest.raises(ConfigError, match="have to be drawn"):
        SimulatedRobot(SimulatedRobotConfig(touch=["rgb"]))
    with SimulatedRobot(SimulatedRobotConfig(task="wipe", touch=["wrench"])) as robot:
        stream = robot.spec[KEY]
        assert stream.rate_hz == 125.0
        spec = with_histories(robot.spec, [stream], {KEY: SHOWN}, "robot")
        observer, loop = Observer(robot, [], spec, 2), DeadlineLoop(10.0)
        target = holding_target(robot.spec, robot.state()[1])
        for _ in range(5):
            loop.wait()
            target[2] += 0.02  # what is moved feels its own inertia
            robot.command(target, now_ns() + 100 * MS)
            time_ns, seen = observer.observe()
        history = observer.history()[KEY]
        assert history.shape == (1, 2, 20, 6)
        np.testing.assert_allclose(history[0, -1, -1], seen[KEY], atol=1e-5)
        assert history_of(stream, SHOWN) == spec[KEY]
        assert len(np.unique(history[0, -1, :, 2])) > 5
        assert time_ns <= robot.state()[0]
