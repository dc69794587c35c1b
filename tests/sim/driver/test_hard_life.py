"""Disturbances and faults of simulated robots, in their real processes."""

import functools
import time

import numpy as np
import pytest
from motions import go, here, moved, wait_until

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import ConfigError, DeviceError, UnknownNameError
from robopolicy_sim.configs import Fault, FaultConfig, SimulatedRobotConfig
from robopolicy_sim.robot import make_robot
from robopolicy_sim.tasks.manipulation import task_world
from robopolicy_sim.worlds.configs import DisturbanceConfig

pytestmark = pytest.mark.realtime

AFTER_S = 1.0


def failing(kind, **settings):
    return make_robot(SimulatedRobotConfig(fault=FaultConfig(kind, AFTER_S), **settings))


@functools.cache
def mirror():
    return task_world("pick_place", "ur5e")


def simulated_time(robot):
    world = mirror()
    world.set_physics_state(robot.ring.newest().data["physics"])
    return world.time


def test_the_robot_is_pushed_measures_itself_wrongly_and_its_cameras_shake():
    disturbance = DisturbanceConfig(force=15.0, drift=0.01, camera_jitter=0.02)
    world = mirror()
    with make_robot(SimulatedRobotConfig(disturbance=disturbance)) as robot, robot.cameras[0] as camera:
        errors, forces, images = [], [], []
        for _ in range(8):
            record = robot.ring.newest()
            world.set_physics_state(record.data["physics"])
            errors.append(record.data["robot0_eef_pos"] - world.robot.tcp_pose[:3, 3])
            forces.append(world.data.xfrc_applied[world.robot.hand_body, :3].copy())
            images.append(camera.read()[1]["camera0_rgb"].astype(int))
            time.sleep(0.1)
        robot.reset(5)
        world.set_physics_state(robot.ring.newest().data["physics"])
        assert np.abs(world.data.xfrc_applied).max() < 2.0  # it began anew
    assert 1e-3 < np.sqrt(np.mean(np.square(errors))) < 0.03
    assert 1e-5 < np.abs(np.diff(errors, axis=0)).max() < 0.02  # slowly
    assert 0.5 < np.abs(forces).max() < 15.0
    assert min(np.abs(np.diff(images, axis=0)).mean(axis=(1, 2, 3))) > 0.5


def test_delayed_steps_are_a_latency_that_nobody_knows_of():
    with make_robot(SimulatedRobotConfig(disturbance=DisturbanceConfig(delay_steps=4))) as robot:
        assert robot.latencies.command == 0.0
        start, began = here(robot), now_ns()
        robot.command(moved(start, z=0.05), now_ns())
        assert wait_until(lambda: here(robot)[2] > start[2] + 1e-3)
        assert robot.state()[0] - began > seconds_to_ns(0.4)


def test_a_robot_that_falls_silent_is_noticed():
    with failing("robot_silent") as robot:
        robot.state()

        def silent():
            try:
                robot.state()
            except DeviceError as error:
                return "no sign of life" in str(error)
            return False

        assert wait_until(silent)


def test_cameras_freeze_while_the_robot_goes_on_until_a_reset():
    with failing("camera_frozen") as robot, robot.cameras[0] as camera:
        assert wait_until(lambda: robot.state()[0] - camera.read()[0] > 3e8)
        before = camera.read()[0]
        time.sleep(0.2)
        assert camera.read()[0] == before
        robot.reset(1)
        assert camera.read()[0] > before


def test_a_gripper_lets_go_and_closes_again_only_after_a_reset():
    with failing("gripper_open") as robot:
        closed = here(robot)
        widest, closed[6] = closed[6], 0.0
        robot.reset(0)  # start-up took a while
        robot.command(closed, now_ns())
        assert wait_until(lambda: simulated_time(robot) > AFTER_S + 0.8)
        widths = [record.data["robot0_gripper_width"][0] for record in robot.ring.history(200)]
        assert min(widths) < 0.01
        assert widths[-1] > widest - 2e-3
        robot.reset(0)
        robot.command(closed, now_ns())
        assert wait_until(lambda: here(robot)[6] < 0.01)


def test_a_joint_is_stuck_and_the_others_are_not():
    with failing("joint_stuck") as robot:
        wait_until(lambda: simulated_time(robot) >= AFTER_S + 0.1)
        before = robot.state()[1]["robot0_joint_pos"]
        aside = moved(here(robot), y=0.1, z=0.05)
        assert go(robot, aside, seconds=1.0) > 0.02
        after = robot.state()[1]["robot0_joint_pos"]
        assert abs(after[0] - before[0]) < 2e-3
        assert np.abs(after - before)[1:].max() > 0.05
        robot.reset(0)
        assert go(robot, moved(here(robot), y=0.05), seconds=AFTER_S) < 5e-3


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        (lambda: {"fault": FaultConfig("gripper_opens")}, UnknownNameError, "Did you mean 'gripper_open'"),
        (lambda: {"fault": FaultConfig(Fault.NONE, -1.0)}, ConfigError, r"after is -1.0 s; give 0 or more"),
        (
            lambda: {"fault": FaultConfig("joint_stuck"), "embodiment": "flying_gripper"},
            ConfigError,
            "'flying_gripper' has no joint",
        ),
        (lambda: {"disturbance": DisturbanceConfig(force=-1.0)}, ConfigError, "disturbance.force is -1.0"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(settings, kind, message):
    with pytest.raises(kind, match=message):
        make_robot(SimulatedRobotConfig(**settings()))
