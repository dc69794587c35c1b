"""The pick-and-place task as a Gymnasium environment, and the conformance check itself."""

import warnings
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env

from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_datasets.registry import tasks
from robopolicy_sim.conformance import check_env
from robopolicy_sim.tasks.configs import PickPlaceConfig
from robopolicy_sim.tasks.pick_place import PickPlaceEnv


@pytest.fixture(scope="module")
def env():
    return PickPlaceEnv(PickPlaceConfig())


def hold(observation):
    """The action that keeps the arm where it is."""
    keys = ("robot0_eef_pos", "robot0_eef_rot_axis_angle", "robot0_gripper_width")
    return np.concatenate([observation[key] for key in keys])


# Foreign environments need a process of their own; they are checked where those are made.
OURS = [name for name in tasks.names() if tasks.config_class(name).target.startswith("robopolicy_sim.tasks.")]


@pytest.mark.parametrize("name", OURS)
def test_conforms(name):
    if name.startswith("pusht"):
        pytest.importorskip("gym_pusht", reason="the extra 'pusht' is not installed")
    config = replace(tasks.config_class(name)(), max_steps=10)
    assert len(check_env(lambda: tasks.build(name, config))) > 15


@pytest.mark.parametrize("name", OURS)
def test_an_episode_has_steps(name):
    with pytest.raises(ConfigError, match=r"task\.max_steps is 0"):
        tasks.build(name, replace(tasks.config_class(name)(), max_steps=0))


def test_passes_gymnasiums_own_check():
    made = gymnasium.make(
        "robopolicy_sim.tasks.gymnasium_ids:robopolicy/PickPlace-v0", config=PickPlaceConfig(image_size=32)
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(symmetric and normalized|infinity).*")
        gymnasium_check_env(made.unwrapped)
    made.close()


def test_is_registered_under_its_name():
    assert tasks.config_class("pick_place") is PickPlaceConfig
    assert tasks.load("pick_place") is PickPlaceEnv


def test_spec_says_what_is_observed(env):
    observation, info = env.reset(seed=0)
    assert [feature.key for feature in env.data_spec.observation] == list(observation)
    assert observation["camera0_rgb"].shape == (64, 64, 3)
    assert env.data_spec["action"].kind == "pose_width"
    assert (env.dt, env.max_steps) == (0.1, 72)
    assert info["success"] is False


def test_image_size_is_a_setting():
    observation, _ = PickPlaceEnv(PickPlaceConfig(image_size=96)).reset(seed=0)
    assert observation["camera1_rgb"].shape == (96, 96, 3)


def test_an_action_is_an_absolute_pose_reached_within_a_few_steps(env):
    observation, _ = env.reset(seed=1)
    action = hold(observation)
    action[:3] += [0.03, -0.03, -0.05]
    action[6] = 0.06
    for _ in range(4):
        observation, *_ = env.step(action)
    np.testing.assert_allclose(observation["robot0_eef_pos"], action[:3], atol=1e-3)
    np.testing.assert_allclose(observation["robot0_gripper_width"], action[6:], atol=2e-3)


def test_holding_the_measured_pose_does_not_drift(env):
    first, _ = env.reset(seed=2)
    observation = first
    for _ in range(20):
        observation, *_ = env.step(hold(observation))
    np.testing.assert_allclose(observation["robot0_eef_pos"], first["robot0_eef_pos"], atol=5e-3)


def test_interleaved_environments_do_not_disturb_each_other():
    """They share a model and a renderer."""
    alone = PickPlaceEnv(PickPlaceConfig(image_size=32))
    observation, _ = alone.reset(seed=3)
    expected = [observation := alone.step(hold(observation))[0] for _ in range(3)]
    first, second = PickPlaceEnv(PickPlaceConfig(image_size=32)), PickPlaceEnv(PickPlaceConfig(image_size=48))
    observation, _ = first.reset(seed=3)
    other, _ = second.reset(seed=4)
    for step in range(3):
        observation = first.step(hold(observation))[0]
        other = second.step(hold(other))[0]
        for key, value in expected[step].items():
            np.testing.assert_array_equal(observation[key], value)


def test_reset_without_a_seed_goes_on_with_new_episodes(env):
    env.reset(seed=5)
    pads = [env.scene.pad_position]
    for _ in range(2):
        env.reset()
        pads.append(env.scene.pad_position)
    assert len(np.unique(np.array(pads), axis=0)) == 3


def test_time_runs_out(env):
    observation, _ = env.reset(seed=6)
    for step in range(env.max_steps):
        observation, _, terminated, truncated, _ = env.step(hold(observation))
        assert not terminated
        assert truncated == (step == env.max_steps - 1)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros(6), r"shape \(6,\); pick_place expects \(7,\)"),
        (np.zeros((1, 7)), "pick_place expects"),
        (np.full(7, np.nan), "not finite; pick_place expects"),
    ],
)
def test_a_bad_action_is_refused_with_what_is_expected(env, action, message):
    observation, _ = env.reset(seed=0)
    with pytest.raises(SpecError, match=message):
        env.step(action)
    env.step(hold(observation))


class WrongEnv(PickPlaceEnv):
    """Breaks several promises."""

    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=None)
        observation["robot0_eef_pos"] = observation["robot0_eef_pos"].astype(np.float64)
        return observation, {**info, "success": "no"}

    def _checked(self, action):
        return np.nan_to_num(np.resize(action, 7))


def test_the_check_names_everything_that_is_wrong():
    with pytest.raises(SpecError) as caught:
        check_env(lambda: WrongEnv(PickPlaceConfig(image_size=16, max_steps=3)))
    for part in ("'robot0_eef_pos' is float64", "bool 'success'", "equal seeds", "wrong shape", "not finite"):
        assert part in str(caught.value)


def test_the_check_wants_our_spec():
    with pytest.raises(SpecError, match="not NoneType"):
        check_env(lambda: gymnasium.make("CartPole-v1"))


def test_gymnasium_makes_the_environment():
    made = gymnasium.make("robopolicy_sim.tasks.gymnasium_ids:robopolicy/PickPlace-v0")
    assert made.unwrapped.data_spec["action"].kind == "pose_width"
    made.close()
