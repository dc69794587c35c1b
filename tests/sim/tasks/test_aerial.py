"""The aerial manipulator at the tasks: it presses, pulls and carries although rotors hold it softly."""

import numpy as np
import pytest

from robopolicy_datasets.geometry import pose_to_vector
from robopolicy_sim.experts.configs import ScriptedConfig
from robopolicy_sim.tasks.tidy_table import CUBE_MASS

BODY = "aerial_manipulator"


@pytest.mark.parametrize("task", ["peg_in_hole", "open_and_retrieve", "push"])
def test_the_expert_succeeds(task, make_env, make_expert, go_on, count):
    env = make_env(task, BODY)
    done = []
    for seed in range(count(1, 100)):
        env.reset(seed=seed)
        infos = go_on(env, make_expert(env, ScriptedConfig(recovery_rate=0.0), seed))
        done.append(infos[-1]["success"])
    assert np.mean(done) >= 0.9


def test_the_weight_of_the_arm_does_not_lower_the_tool(make_env):
    env = make_env("peg_in_hole", BODY)
    env.reset(seed=0)
    robot = env.world.robot
    start = robot.tcp_pose
    for _ in range(15):
        env.step(np.r_[pose_to_vector(start), 0.1])
    assert np.linalg.norm(robot.tcp_pose[:3, 3] - start[:3, 3]) < 2e-3


def test_what_it_carries_is_felt_and_given_back_by_the_rotors(make_env, make_expert, go_on):
    env = make_env("tidy_table", BODY)
    robot, scene = env.world.robot, env.scene
    env.reset(seed=1)
    go_on(env, make_expert(env), lambda: scene.cube_pose(0)[2, 3] > 0.06)
    held = np.r_[pose_to_vector(robot.tcp_pose), 0.0]
    for _ in range(15):
        env.step(held)
    felt = robot.base_pose[:3, :3] @ robot.contact_wrench[:3]
    assert felt[2] == pytest.approx(-9.81 * CUBE_MASS, rel=0.05)
    assert np.linalg.norm(robot.tcp_pose[:3, 3] - held[:3]) < 4e-3
