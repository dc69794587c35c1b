"""Trackers: a tool reaches the poses that it is told, whatever body carries it."""

from dataclasses import replace

import numpy as np
import pytest

from robopolicy_datasets.geometry import pose_from_vector, pose_to_vector
from robopolicy_sim.tasks.configs import PickPlaceConfig
from robopolicy_sim.tasks.pick_place import PickPlaceEnv
from robopolicy_sim.worlds.configs import DisturbanceConfig

SMALL = PickPlaceConfig(image_size=8)
STANDARD_FORCE = 8.0  # [N] of UMI-on-Air's disturbance at pick and place


def held(env, seed):
    """The action that keeps the tool where it begins."""
    env.reset(seed=seed)
    return np.r_[pose_to_vector(env.world.robot.tcp_pose), 0.1]


def errors(env, action, steps):
    found = []
    for _ in range(steps):
        env.step(action)
        found.append(np.linalg.norm(env.world.robot.tcp_pose[:3, 3] - action[:3]))
    return np.array(found)


@pytest.mark.parametrize("name", ["ur5e", "flying_gripper", "aerial_manipulator"])
def test_the_tool_holds_and_then_reaches_another_pose(name):
    env = PickPlaceEnv(replace(SMALL, embodiment=name))
    action = held(env, 0)
    assert errors(env, action, 10).max() < 0.01
    action[:3] += [0.03, -0.04, -0.05]
    assert errors(env, action, 30)[-5:].max() < 2e-3
    np.testing.assert_allclose(env.world.robot.tcp_pose, pose_from_vector(action[:6]), atol=0.02)


def test_a_carried_tool_keeps_the_speed_limits_of_its_hand():
    env = PickPlaceEnv(replace(SMALL, embodiment="flying_gripper"))
    action = held(env, 0)
    start = action[:3].copy()
    action[:3] += [0.0, 0.5, 0.3]
    env.step(action)
    moved = np.linalg.norm(env.world.robot.tcp_pose[:3, 3] - start)
    limit = env.world.robot.embodiment.base.velocity_limit * env.dt
    assert 0.5 * limit < moved <= 1.01 * limit


def test_a_weak_arm_that_lags_catches_up_no_faster_than_its_joints_may():
    """Its servos saturate at every start; without the tracker's rule a joint reached 1.3 times its limit."""
    env = PickPlaceEnv(replace(SMALL, embodiment="so101"))
    action, random = held(env, 0), np.random.default_rng(0)
    robot, step, speeds = env.world.robot, env.world.step, []

    def watched(substeps):
        for _ in range(substeps):
            step()
            speeds.append(np.abs(robot.joint_velocities) / robot.embodiment.velocity_limits)

    env.world.step = watched
    for _ in range(30):
        away = action.copy()
        away[:3] += random.uniform(-0.12, 0.12, 3) * [1, 1, 0.4]
        for _ in range(random.integers(1, 5)):
            env.step(away)
    assert 0.9 < np.max(speeds) <= 1.01


def test_an_aerial_manipulator_hovers_within_its_limits_under_the_standard_disturbance():
    disturbed = replace(
        SMALL, embodiment="aerial_manipulator", disturbance=DisturbanceConfig(force=STANDARD_FORCE)
    )
    env = PickPlaceEnv(disturbed)
    robot = env.world.robot
    away = errors(env, held(env, 1), 100)[20:]
    assert 0.02 < np.sqrt(np.mean(away**2)) < 0.05
    assert np.degrees(np.arccos(robot.base_pose[2, 2])) < 10
    assert np.all((robot.thrusts >= 0) & (robot.thrusts <= robot.embodiment.base.thrust_limits))
