"""Two robots in one scene are one driver, with one stop."""

import time

import numpy as np
import pytest
from motions import go, here, wait_until

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.conformance import check_driver
from robopolicy_drivers.safety.configs import SafetyConfig
from robopolicy_sim.configs import SimulatedRobotConfig
from robopolicy_sim.robot import make_robot

pytestmark = pytest.mark.realtime


@pytest.fixture
def config():
    return SimulatedRobotConfig(task="lift_together", safety=SafetyConfig())


def test_both_are_in_the_spec_and_conform(config):
    robot = make_robot(config)
    assert robot.spec["action"].shape == (14,)
    for number in (0, 1):
        assert robot.spec[f"robot{number}_joint_pos"].shape == (6,)
    assert [feature.key for feature in robot.cameras[0].spec.observation] == [
        "camera0_rgb",
        "camera1_rgb",
        "camera2_rgb",
    ]
    check_driver(lambda: make_robot(config))


def test_each_goes_its_way_and_one_that_exceeds_a_limit_stops_both(config):
    with make_robot(config) as robot:
        start = here(robot)
        assert abs(start[8] - start[1]) > 0.3  # they stand apart, in one frame
        up_and_down = start + np.array([0, 0, 0.03, 0, 0, 0, 0, 0, 0, -0.03, 0, 0, 0, 0])
        assert go(robot, up_and_down) < 2e-3
        too_far = up_and_down + np.array([0.05, 0, 0, 0, 0, 0, 0, 0, 0, 0.6, 0, 0, 0, 0])
        robot.command(too_far, now_ns())
        assert wait_until(lambda: robot.ring.newest().data["stopped"])
        time.sleep(0.3)
        np.testing.assert_allclose(here(robot)[:3], up_and_down[:3], atol=0.01)
        with pytest.raises(DeviceError, match=r"0\.6\d* m and"):
            robot.command(start, now_ns())
        stops = [event for event in robot.safety_events() if event.data["limit"] == "stop"]
        assert {event.data["robot"] for event in stops} == {"robot0", "robot1"}
        robot.release()
        assert go(robot, start) < 2e-3
