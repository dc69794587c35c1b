"""A robot with a protocol of its own works in a simulated scene: the expert picks the cube and places it."""

import dataclasses

import numpy as np
import pytest
from practice_arm import PracticeArmConfig, PracticeGripperConfig

from robopolicy_datasets.clock import seconds_to_ns
from robopolicy_datasets.errors import ConfigError
from robopolicy_drivers.arms.arm import Arm
from robopolicy_drivers.conformance import check_camera, check_driver
from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_drivers.grippers.gripper import HostedGripper
from robopolicy_drivers.realtime.loop import DeadlineLoop
from robopolicy_sim.configs import MirroredRobotConfig
from robopolicy_sim.experts.configs import ScriptedConfig
from robopolicy_sim.experts.pick_place import PickPlaceExpert
from robopolicy_sim.mirror import MirroredRobot, make_mirrored
from robopolicy_sim.tasks.manipulation import manipulation_spec, task_world

pytestmark = pytest.mark.realtime

STEP_S = 0.1


@pytest.fixture
def make(tmp_path):
    robots = []

    def build(**arm):
        parts = [Arm(PracticeArmConfig(folder=str(tmp_path), **arm)), HostedGripper(PracticeGripperConfig())]
        robots.append(MirroredRobot(parts, MirroredRobotConfig()))
        return robots[-1]

    yield build
    for robot in robots:
        robot.close()


def physics(robot):
    return robot.scene.newest()["physics"]


def test_it_conforms_and_offers_what_a_policy_of_the_task_needs(make):
    assert check_driver(make)
    robot = make()
    offered = dataclasses.replace(
        robot.spec, observation=(*robot.spec.observation, *robot.cameras[0].spec.observation)
    )
    manipulation_spec(64).require(offered, needs="the task", provides="the robot")
    with robot:
        assert check_camera(lambda: robot.cameras[0])


def test_the_expert_picks_and_places_through_the_robots_protocol(make):
    world = task_world("pick_place", "ur5e")
    with make() as robot:
        camera = robot.cameras[0]
        camera.connect()
        robot.reset(3)
        world.set_physics_state(physics(robot))
        first = camera.read()[1]["camera0_rgb"]
        assert not robot.success()
        expert = PickPlaceExpert(world, ScriptedConfig(0.0, 0.0), np.random.default_rng(0))
        loop, apart = DeadlineLoop(1 / STEP_S), []
        for _ in range(250):
            loop.wait()
            world.set_physics_state(physics(robot))
            robot.command(expert.act(), loop.deadline_ns + seconds_to_ns(STEP_S))
            apart.append(np.abs(robot.state()[1]["robot0_joint_pos"] - world.robot.joint_positions).max())
            if robot.success():
                break
        assert robot.success()
        assert np.median(apart) < 0.02  # [rad] the scene's robot follows the real one
        assert np.abs(camera.read()[1]["camera0_rgb"].astype(int) - first).max() > 50
        robot.reset(3)
        assert not robot.success()
        world.set_physics_state(physics(robot))
        assert world.scene.cube_pose[2, 3] < 0.03


def test_equal_seeds_give_equal_scenes(make):
    cubes = []
    with make() as robot:
        for seed in (5, 6, 5):
            robot.reset(seed)
            world = task_world("pick_place", "ur5e")
            world.set_physics_state(physics(robot))
            cubes.append(world.scene.cube_pose[:2, 3])
    np.testing.assert_allclose(cubes[0], cubes[2], atol=1e-4)
    assert np.abs(cubes[0] - cubes[1]).max() > 0.005


def test_an_episode_begins_wherever_the_one_before_has_left_the_arm(make, tmp_path):
    (tmp_path / "start").write_text("2.4 -0.1 0.0 -0.1 0.0 3.0")  # stretched out to the back, and turned
    home = load_embodiment("ur5e").home_positions
    with make() as robot:
        robot.reset(3)
        state = robot.state()[1]
        begins = robot.scene.prepare(3)  # once more, to be told where
        np.testing.assert_allclose(state["robot0_eef_pos"], begins[:3], atol=6e-3)
        assert np.abs(state["robot0_joint_pos"] - home).max() < 0.3


def test_what_does_not_fit_the_scene_is_refused(make, tmp_path):
    with pytest.raises(ConfigError, match=r"robot\.embodiment=fr3"):
        make(embodiment="fr3")
    with pytest.raises(ConfigError, match=r"base_position=\[.*0\.0, 0\.0, 0\.0\]"):
        make(base_position=[1.0, 0.0, 0.0])
    with pytest.raises(ConfigError, match=r"1 arm.* 0"):
        MirroredRobot([HostedGripper(PracticeGripperConfig())], MirroredRobotConfig())
    with pytest.raises(ConfigError, match=r"robot\.parts\.arm\.driver"):
        make_mirrored(MirroredRobotConfig())
