"""One environment of each task, and a way to let its expert go on."""

import numpy as np
import pytest

from robopolicy_datasets.registry import load_target, tasks
from robopolicy_sim.experts.configs import ScriptedConfig

CALM = ScriptedConfig(disturbance=0.0, recovery_rate=0.0)


@pytest.fixture(scope="session")
def make_env():
    made = {}

    def make(task, embodiment="ur5e"):
        if (task, embodiment) not in made:
            config = tasks.config_class(task)(embodiment=embodiment, image_size=8)
            made[task, embodiment] = tasks.build(task, config)
        return made[task, embodiment]

    return make


@pytest.fixture(scope="session")
def make_expert():
    def make(env, config=CALM, seed=0):
        return load_target(env.config.expert)(env.world, config, np.random.default_rng(seed))

    return make


@pytest.fixture(scope="session")
def go_on():
    """Lets an expert act until something is true; returns the infos."""

    def run(env, expert, until=lambda: False):
        infos, over = [], False
        while not over and not until():
            *_, terminated, truncated, info = env.step(expert.disturbed(expert.act()))
            infos.append(info)
            over = terminated or truncated
        return infos

    return run
