"""Touch as part of what a task observes."""

import numpy as np
import pytest

from robopolicy_datasets.errors import ConfigError, UnknownNameError
from robopolicy_sim.conformance import check_env
from robopolicy_sim.experts.collecting import collect_episode
from robopolicy_sim.experts.configs import ScriptedConfig
from robopolicy_sim.experts.pick_place import PickPlaceExpert
from robopolicy_sim.tasks.configs import PickPlaceConfig
from robopolicy_sim.tasks.pick_place import PickPlaceEnv


def felt(**settings):
    return PickPlaceConfig(image_size=8, **settings)


def test_what_is_asked_for_is_in_the_spec_and_conforms():
    config = felt(touch=["wrench", "markers", "rgb"], embodiment="fr3", max_steps=4)
    env = PickPlaceEnv(config)
    keys = [feature.key for feature in env.data_spec.observation if feature.key not in _seen()]
    pads = [f"robot0_tactile{finger}_{what}" for finger in (0, 1) for what in ("markers", "rgb")]
    assert keys == ["robot0_wrench", *pads]
    assert len(check_env(lambda: PickPlaceEnv(config))) > 15


def _seen():
    return {feature.key for feature in PickPlaceEnv(felt()).data_spec.observation}


def test_a_demonstration_feels_the_grasp_and_the_weight():
    env = PickPlaceEnv(felt(touch=["wrench", "taxels"]))
    data, info = collect_episode(env, PickPlaceExpert, ScriptedConfig(0.0, 0.0), np.random.default_rng(0))
    assert info.success
    held = (data["action"][:, 6] == 0) & (data["robot0_eef_pos"][:, 2] > 0.06)
    pressed = data["robot0_tactile0_taxels"].sum(axis=(1, 2))
    assert held.any()
    assert np.all(pressed[held] > 3.0)
    assert np.all(pressed[:3] == 0.0)
    assert np.median(np.linalg.norm(data["robot0_wrench"][held, :3], axis=1)) > 0.3


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"touch": ["wrench"], "embodiment": "flying_gripper"},
            ConfigError,
            "no sensor for touch=wrench",
        ),
        ({"touch": ["markers"], "embodiment": "ur10e"}, ConfigError, "no sensor for touch=markers"),
        ({"touch": ["marker"]}, UnknownNameError, "markers"),
        ({"touch": ["wrench"], "simulator": "bullet"}, UnknownNameError, "pybullet"),
    ],
)
def test_what_cannot_be_felt_is_refused(settings, error, message):
    with pytest.raises(error, match=message):
        PickPlaceEnv(felt(**settings))


def test_the_twin_feels_nothing():
    pytest.importorskip("pybullet", reason="the extra 'pybullet' is not installed")
    with pytest.raises(ConfigError, match=r"take task\.simulator=mujoco"):
        PickPlaceEnv(felt(touch=["wrench"], simulator="pybullet"))
