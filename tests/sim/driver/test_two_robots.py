"""Two robots in one scene are one driver, with one stop; the scene is a third-party package's."""

import sys
import textwrap
import time

import numpy as np
import pytest
from motions import go, here, wait_until

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.registry import tasks
from robopolicy_drivers.conformance import check_driver
from robopolicy_drivers.safety.configs import SafetyConfig
from robopolicy_sim.configs import SimulatedRobotConfig
from robopolicy_sim.robot import make_robot

TASK = '''
"""Two arms face each other over a table."""

from dataclasses import dataclass, field
from typing import ClassVar

from robopolicy_drivers.embodiments import Pose
from robopolicy_sim.tasks.manipulation import ManipulationEnv
from robopolicy_sim.worlds.configs import DisturbanceConfig
from robopolicy_sim.worlds.scene import Scene, View
from robopolicy_sim.worlds.scenery import add_table


@dataclass
class TwoArmsConfig:
    target: ClassVar[str] = "two_arms:TwoArmsEnv"
    embodiment: str = "ur5e"
    image_size: int = 64
    max_steps: int = 10
    disturbance: DisturbanceConfig = field(default_factory=DisturbanceConfig)


class TwoArmsScene(Scene):
    name = "two_arms"
    task_text = "wave"
    num_robots = 2
    center = (0.48, 0.0, 0.02)
    extent = (0.05, 0.05, 0.0)
    views = {"camera0": View((1.0, 0.0, 0.6), (0.5, 0.0, 0.0), 40.0)}

    def build(self, root):
        add_table(root)

    def bind(self, model, data, robots):
        self.robots = robots

    def reset(self, random):
        pass

    def success(self):
        return False

    def progress(self):
        return 0.0

    def base_pose(self, embodiment, number):
        pose = super().base_pose(embodiment, number)
        side = -0.45 if number else 0.45
        return Pose((pose.position[0], side, 0.0), pose.quaternion)

    def start_pose(self, number):
        pose = super().start_pose(number)
        pose[1, 3] += -0.45 if number else 0.45
        return pose

    def reach_center(self, number):
        return (0.48, -0.45 if number else 0.45, 0.02)


class TwoArmsEnv(ManipulationEnv):
    def __init__(self, config=None, render_mode=None):
        super().__init__(config or TwoArmsConfig(), TwoArmsScene(), render_mode)
'''


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Settings of a robot in the scene of an installed package."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "two_arms.py").write_text(textwrap.dedent(TASK))
    metadata = folder / "two_arms-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: two_arms\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[robopolicy.tasks]\ntwo_arms = two_arms:TwoArmsConfig\n")
    known = vars(tasks).pop("_entry_points", None)
    sys.path.insert(0, str(folder))
    yield SimulatedRobotConfig(task="two_arms", safety=SafetyConfig())
    sys.path.remove(str(folder))
    vars(tasks).pop("_entry_points", None)
    if known is not None:
        vars(tasks)["_entry_points"] = known


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
        assert start[8] < -0.4 < 0.4 < start[1]  # they stand apart, in one frame
        up_and_down = start + np.array([0, 0, 0.03, 0, 0, 0, 0, 0, 0, -0.03, 0, 0, 0, 0])
        assert go(robot, up_and_down) < 2e-3
        too_far = up_and_down + np.array([0.05, 0, 0, 0, 0, 0, 0, 0, 0, 0.6, 0, 0, 0, 0])
        robot.command(too_far, now_ns())
        assert wait_until(lambda: robot.states.newest().data["stopped"])
        time.sleep(0.3)
        np.testing.assert_allclose(here(robot)[:3], up_and_down[:3], atol=0.01)
        with pytest.raises(DeviceError, match=r"0\.6\d* m and"):
            robot.command(start, now_ns())
        stops = [event for event in robot.safety_events() if event.data["limit"] == "stop"]
        assert {event.data["robot"] for event in stops} == {"robot0", "robot1"}
        robot.release()
        assert go(robot, start) < 2e-3
