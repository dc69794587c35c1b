"""Meta-World for real, where ``make metaworld`` was run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robopolicy_datasets.errors import ConfigError, SimulationError
from robopolicy_sim.bridge.configs import ForeignExpertConfig, MetaWorldConfig
from robopolicy_sim.conformance import check_env

pytest.importorskip("gymnasium", reason="the extra 'sim' is not installed")
from robopolicy_sim.bridge.expert import demonstrate
from robopolicy_sim.bridge.metaworld import make_env

PYTHON = Path(__file__).parents[3] / ".venv-metaworld" / "bin" / "python"
is_set_up = pytest.mark.skipif(not PYTHON.exists(), reason="Meta-World is not set up (make metaworld)")


def config(**settings) -> MetaWorldConfig:
    return MetaWorldConfig(python=str(PYTHON), **settings)


@is_set_up
def test_it_conforms():
    check_env(lambda: make_env(config(max_steps=20)))


@is_set_up
@pytest.mark.parametrize("name", ["reach-v3", "door-open-v3", "pick-place-v3"])
def test_the_experts_succeed(name):
    episodes = list(demonstrate(ForeignExpertConfig(), config(name=name), range(4)))
    assert len(episodes) == 4
    for data, info in episodes:
        assert info.task == name.removesuffix("-v3").replace("-", " ")
        assert data["action"].shape == (len(data["objects"]), 4)
        assert np.abs(data["action"]).max() <= 1
    starts = {tuple(data["goal"][0]) + tuple(data["objects"][0]) for data, _ in episodes}
    assert len(starts) == 4


@is_set_up
def test_the_expert_answers_at_any_state():
    env = make_env(config())
    env.reset(seed=0)
    actions = []
    for _ in range(20):  # away from where it wants to go
        actions.append(np.asarray(env.call("expert_action")))
        env.step(-actions[-1])
    env.close()
    assert len({tuple(action) for action in actions}) > 10


@is_set_up
def test_its_cameras_see_the_task():
    env = make_env(config(name="drawer-open-v3", image_size=48, max_steps=3))
    observation, _ = env.reset(seed=0)
    env.close()
    image = observation["camera0_rgb"]
    assert image.shape == (48, 48, 3)
    assert image.std() > 10


@is_set_up
def test_an_unknown_task_gets_the_nearest_names():
    with pytest.raises(SimulationError, match=r"no task 'reach-v9'\. Nearest: reach-v3"):
        make_env(config(name="reach-v9"))


def test_without_it_the_set_up_is_named(tmp_path):
    with pytest.raises(ConfigError, match="make metaworld"):
        make_env(MetaWorldConfig(python=str(tmp_path / "python")))
