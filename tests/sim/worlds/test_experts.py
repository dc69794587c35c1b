"""The scripted expert succeeds, varies, recovers, and records clean labels from measured states."""

import itertools
import logging

import numpy as np
import pytest

from robopolicy_datasets.errors import ConfigError, SimulationError
from robopolicy_datasets.registry import teleops
from robopolicy_sim.experts.collecting import collect, collect_episode
from robopolicy_sim.experts.configs import ScriptedConfig
from robopolicy_sim.experts.expert import tool_down
from robopolicy_sim.experts.pick_place import PickPlaceExpert, Style
from robopolicy_sim.tasks.configs import PickPlaceConfig
from robopolicy_sim.tasks.pick_place import PickPlaceEnv

SMALL = PickPlaceConfig(image_size=8)


@pytest.fixture(scope="module")
def env():
    return PickPlaceEnv(SMALL)


def demonstrate(env, config, seed):
    return collect_episode(env, PickPlaceExpert, config, np.random.default_rng(seed))


@pytest.mark.parametrize(
    "config", [ScriptedConfig(0.0, 0.0), ScriptedConfig(), ScriptedConfig(1.0, 1.0)], ids=str
)
def test_succeeds(env, config, count):
    episodes = count(40, 200)
    infos = [demonstrate(env, config, seed)[1] for seed in range(episodes)]
    assert np.mean([info.success for info in infos]) >= 0.9


@pytest.mark.parametrize("embodiment", ["ur10e", "fr3"])
def test_succeeds_with_other_arms(embodiment, count):
    env = PickPlaceEnv(PickPlaceConfig(image_size=8, embodiment=embodiment))
    episodes = count(10, 100)
    infos = [demonstrate(env, ScriptedConfig(), s)[1] for s in range(episodes)]
    assert np.mean([info.success for info in infos]) >= 0.9
    assert infos[0].embodiment == embodiment


def test_an_episode_has_all_of_the_spec(env):
    data, info = demonstrate(env, ScriptedConfig(), 0)
    steps = len(data["action"])
    assert 15 < steps <= env.max_steps
    for feature in env.data_spec.features:
        assert data[feature.key].shape == (steps, *feature.shape)
        assert data[feature.key].dtype == feature.dtype
    assert info.success
    assert (info.operator, info.embodiment) == ("scripted", "ur5e")


def test_equal_seeds_give_equal_episodes_and_others_differ(env):
    first, again, other = (demonstrate(env, ScriptedConfig(), seed)[0] for seed in (7, 7, 8))
    for key, value in first.items():
        np.testing.assert_array_equal(again[key], value)
    assert not np.array_equal(other["robot0_eef_pos"][0], first["robot0_eef_pos"][0])


def test_labels_start_from_the_measured_state_and_stay_clean(env):
    """However strong the disturbance, each label is a bounded step from where the arm was seen to be."""
    for seed in range(5):
        data, _ = collect_episode(
            env, PickPlaceExpert, ScriptedConfig(disturbance=2.0), np.random.default_rng(seed)
        )
        moves = np.linalg.norm(data["action"][:, :3] - data["robot0_eef_pos"], axis=1)
        assert moves.max() <= 0.0601
        assert set(np.unique(data["action"][:, 6])) <= {np.float32(0.0), np.float32(0.085)}
        np.testing.assert_allclose(np.linalg.norm(data["action"][:, 3:6], axis=1), np.pi, atol=1e-5)


def test_executed_actions_are_disturbed_by_what_was_asked_for(env):
    env.reset(seed=0)
    for scale in (0.0, 1.0):
        expert = PickPlaceExpert(env.world, ScriptedConfig(scale, 0.0), np.random.default_rng(0))
        action = expert.act()
        noise = np.array([expert.disturbed(action) - action for _ in range(2000)])
        np.testing.assert_allclose(noise[:, :3].std(axis=0), scale * 0.012, rtol=0.1)
        np.testing.assert_array_equal(noise[:, 6], 0.0)


@pytest.mark.parametrize("mishap", ["miss", "slip"])
def test_mishaps_happen_and_are_made_good(env, mishap, monkeypatch):
    monkeypatch.setattr(PickPlaceExpert, "mishaps", (mishap,))
    monkeypatch.setattr(Style, "draw", lambda *_: Style(0.1, 0.1, 0.05))
    data, info = demonstrate(env, ScriptedConfig(1.0, 1.0), 1)
    assert info.success
    openings = np.sum(np.diff(data["action"][:, 6]) > 0.05)
    wandered = np.sum(np.abs(np.diff(data["robot0_eef_pos"][:, 2])))
    if mishap == "slip":
        assert openings == 2  # a second grasp
    assert wandered > 0.4


def test_styles_and_mishaps_vary(env):
    random = np.random.default_rng(0)
    experts = [PickPlaceExpert(env.world, ScriptedConfig(), random) for _ in range(300)]
    assert {expert.mishap for expert in experts} == {"", "miss", "slip"}
    assert 0.05 < np.mean([expert.mishap != "" for expert in experts]) < 0.25
    assert np.ptp([expert.style.speed for expert in experts]) > 0.02


def test_collect_yields_one_good_episode_a_seed():
    episodes = list(collect(ScriptedConfig(), SMALL, range(3)))
    assert len(episodes) == 3
    assert all(info.success for _, info in episodes)


def test_collect_leaves_failures_out_and_says_so(caplog):
    with caplog.at_level(logging.INFO, logger="robopolicy_sim.successes"):
        assert list(collect(ScriptedConfig(), PickPlaceConfig(image_size=8, max_steps=5), range(2))) == []
    assert "seed 1 failed" in caplog.text


def test_collect_gives_up_where_nothing_succeeds(monkeypatch):
    monkeypatch.setattr("robopolicy_sim.successes.MOST_FAILURES", 4)
    demonstrations = collect(ScriptedConfig(), PickPlaceConfig(image_size=8, max_steps=2), itertools.count())
    with pytest.raises(SimulationError, match=r"4 demonstrations failed.*seed 3.*task\.max_steps=2"):
        next(demonstrations)


@pytest.mark.parametrize("config", [ScriptedConfig(disturbance=-1.0), ScriptedConfig(recovery_rate=1.5)])
def test_settings_out_of_range_are_refused(config):
    with pytest.raises(ConfigError, match="recovery_rate from 0 to 1"):
        next(collect(config, SMALL, [0]))


def test_is_registered_as_teleoperation():
    assert teleops.config_class("scripted") is ScriptedConfig
    assert teleops.load("scripted") is collect


def test_tool_down_points_down_with_the_given_yaw():
    from robopolicy_datasets.geometry import axis_angle_to_matrix

    for yaw in np.linspace(-3, 3, 7):
        matrix = axis_angle_to_matrix(tool_down(yaw))
        np.testing.assert_allclose(matrix[:, 2], [0, 0, -1], atol=1e-12)
        np.testing.assert_allclose(matrix[:, 0], [np.cos(yaw), np.sin(yaw), 0], atol=1e-12)
