"""Every body that can do pick and place is a driver, wherever its base stands and however it flies."""

import time

import numpy as np
import pytest
from motions import go, here, moved, wait_until

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import ConfigError, DeviceError
from robopolicy_drivers.conformance import check_driver
from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_drivers.safety.configs import SafetyConfig
from robopolicy_sim.configs import SimulatedRobotConfig
from robopolicy_sim.robot import make_robot
from robopolicy_sim.tasks.manipulation import task_world

pytestmark = pytest.mark.realtime

OTHER_BODIES = [
    "ur3e",
    "so101",
    "flying_gripper",
    "aerial_manipulator",
]  # tests/sim/test_composition.py: arms


@pytest.mark.parametrize("name", OTHER_BODIES)
def test_every_body_conforms_and_reaches_targets_in_the_world(name):
    check_driver(lambda: make_robot(SimulatedRobotConfig(embodiment=name)))
    world = task_world("pick_place", name)
    with make_robot(SimulatedRobotConfig(embodiment=name)) as robot:
        start = here(robot)
        np.testing.assert_allclose(start[:3], world.robot.tcp_pose[:3, 3], atol=5e-3)
        assert go(robot, moved(start, x=0.02, z=-0.02)) < 5e-3
        limits = {event.data["limit"] for event in robot.safety_events()}
        assert limits <= {"velocity", "acceleration"}  # which only small arms come to
        floor = start.copy()
        floor[2] = -0.2  # under the table
        go(robot, floor, 0.8)
        assert -0.01 < here(robot)[2] < start[2] - 0.03


def test_a_stop_of_a_flying_arm_brakes_to_a_hover_that_the_next_command_ends():
    with make_robot(SimulatedRobotConfig(embodiment="aerial_manipulator", safety=SafetyConfig())) as robot:
        base = load_embodiment("aerial_manipulator").flying_base
        start = here(robot)
        robot.command(moved(start, y=0.4, z=0.1), now_ns())
        assert wait_until(lambda: here(robot)[1] > start[1] + 0.05)
        _, before = robot.state()
        time.sleep(0.05)
        speed = np.linalg.norm(here(robot)[:3] - before["robot0_eef_pos"]) / 0.05
        robot.stop("the red button")
        stopped_at = here(robot)
        with pytest.raises(DeviceError, match="the red button"):
            robot.command(start, now_ns())
        time.sleep(1.5)
        hovering = here(robot)
        assert np.linalg.norm(hovering[:3] - stopped_at[:3]) < speed**2 / (2 * base.acceleration_limit) + 0.1
        time.sleep(0.5)
        np.testing.assert_allclose(here(robot)[:3], hovering[:3], atol=5e-3)  # it flies on, and does not fall
        robot.reset(2)
        with pytest.raises(DeviceError, match="the red button"):
            robot.command(here(robot), now_ns() + seconds_to_ns(0.1))
        robot.release()
        assert go(robot, moved(here(robot), z=0.05)) < 4e-3


def test_a_body_that_cannot_do_the_task_is_refused_before_anything_starts():
    with pytest.raises(ConfigError, match="quadrotor' has no gripper"):
        make_robot(SimulatedRobotConfig(embodiment="quadrotor"))
