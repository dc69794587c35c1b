"""Pushing: the cube gets home without being grasped, and the expert takes up again from any state."""

import gymnasium
import numpy as np
import pytest

from robopolicy_sim.experts.collecting import collect_episode
from robopolicy_sim.experts.configs import ScriptedConfig
from robopolicy_sim.experts.push import PushExpert
from robopolicy_sim.tasks.configs import PushConfig
from robopolicy_sim.tasks.pick_place import CUBE_HALF_SIZE
from robopolicy_sim.tasks.push import PushEnv


@pytest.fixture(scope="module")
def env():
    return PushEnv(PushConfig(image_size=8))


@pytest.mark.parametrize("config", [ScriptedConfig(), ScriptedConfig(1.0, 1.0)], ids=str)
def test_the_expert_succeeds(env, config, count):
    infos = [
        collect_episode(env, PushExpert, config, np.random.default_rng(seed))[1]
        for seed in range(count(15, 100))
    ]
    assert np.mean([info.success for info in infos]) >= 0.9


@pytest.mark.parametrize("embodiment", ["ur10e", "fr3"])
def test_the_expert_succeeds_with_other_arms(embodiment, count):
    other = PushEnv(PushConfig(image_size=8, embodiment=embodiment))
    infos = [
        collect_episode(other, PushExpert, ScriptedConfig(), np.random.default_rng(seed))[1]
        for seed in range(count(6, 100))
    ]
    assert np.mean([info.success for info in infos]) >= 0.8


def test_the_cube_stays_on_the_table_and_the_fingers_closed(env):
    env.reset(seed=1)
    expert = PushExpert(env.world, ScriptedConfig(0.0, 0.0), np.random.default_rng(1))
    heights, widths, over = [], [], False
    while not over:
        _, _, success, truncated, _ = env.step(expert.act())
        heights.append(env.scene.cube_pose[2, 3])
        widths.append(env.world.robot.gripper_width)
        over = success or truncated
    assert success
    assert max(heights) < 1.5 * CUBE_HALF_SIZE
    assert max(widths[10:]) < 0.01


def test_it_begins_anew_where_somebody_moves_the_cube(env):
    """The cube jumps aside in the middle of a push."""
    env.reset(seed=2)
    expert = PushExpert(env.world, ScriptedConfig(0.0, 0.0), np.random.default_rng(2))
    moved, success, truncated = False, False, False
    while not (success or truncated):
        action = expert.act()
        if not moved and expert.phase.value == "push":
            moved = True
            address = int(env.world.model.joint("cube").qposadr[0])
            env.world.data.qpos[address : address + 2] = env.scene.center[:2] + np.array([-0.08, 0.08])
        _, _, success, truncated, _ = env.step(action)
    assert moved
    assert success


def test_an_open_gripper_over_the_cube_at_home_is_no_success(env):
    env.reset(seed=3)
    address = int(env.world.model.joint("cube").qposadr[0])
    env.world.data.qpos[address : address + 2] = env.scene.pad_position[:2]
    tool = env.world.state()
    pose = np.r_[tool["robot0_eef_pos"], tool["robot0_eef_rot_axis_angle"]]
    info = env.step(np.r_[pose, 0.085])[4]
    assert not info["success"]
    for _ in range(10):
        info = env.step(np.r_[pose, 0.0])[4]
    assert info["success"]


def test_gymnasium_makes_the_environment():
    made = gymnasium.make("robopolicy_sim.tasks.gymnasium_ids:robopolicy/Push-v0")
    assert made.unwrapped.scene.name == "push"
    made.close()
