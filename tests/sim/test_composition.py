"""Two simulated arms in processes of their own are one robot."""

import os
import signal
import time

import numpy as np
import pytest

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.registry import robots
from robopolicy_drivers.composition import CompositeRobot
from robopolicy_drivers.conformance import check_camera, check_driver
from robopolicy_drivers.runtime.preflight import preflight
from robopolicy_sim.configs import SimulatedRobotConfig
from robopolicy_sim.robot import make_robot

pytestmark = pytest.mark.realtime


def pair():
    return [make_robot(SimulatedRobotConfig(embodiment=name)) for name in ("ur5e", "fr3")]


def poses(composite):
    _, state = composite.state()
    names = ("eef_pos", "eef_rot_axis_angle", "gripper_width")
    return np.concatenate([state[f"robot{arm}_{name}"] for arm in (0, 1) for name in names]).astype(float)


def wait_until(condition, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_registered_robot_conforms():
    check_driver(lambda: robots.build("sim", robots.config_class("sim")()))


@pytest.mark.parametrize("embodiment", ["ur10e", "fr3"])
def test_so_does_every_arm_at_the_table(embodiment):
    check_driver(lambda: make_robot(SimulatedRobotConfig(embodiment=embodiment)))


def test_a_composite_of_two_conforms():
    assert len(check_driver(lambda: CompositeRobot(pair()))) > 12


def test_the_simulated_camera_conforms():
    with make_robot(SimulatedRobotConfig()) as robot:
        assert "all that it delivers is images" in check_camera(lambda: robot.cameras[0])


def test_both_arms_move_hold_and_stop_together():
    parts = pair()
    with CompositeRobot(parts) as composite:
        assert composite.spec["action"].kind == "pose_width"
        assert composite.spec["robot0_joint_pos"].shape == (6,)
        assert composite.spec["robot1_joint_pos"].shape == (7,)
        start = poses(composite)
        target = start + np.tile([0.0, 0.0, -0.05, 0, 0, 0, 0], 2) * np.repeat([1, -1], 7)
        sent = composite.command(target, now_ns() + seconds_to_ns(0.4))
        np.testing.assert_allclose(sent, target, atol=1e-6)
        wait_until(lambda: np.abs(poses(composite) - target)[[2, 9]].max() < 0.002)
        oldest = min(part.state()[0] for part in parts)
        assert composite.state()[0] >= oldest
        assert composite.lateness().ticks >= max(part.lateness().ticks for part in parts)
        findings = {finding.name: finding for finding in preflight(composite, (), ())}
        assert all(finding.passed for finding in findings.values())
        for name in ("robot0", "robot1"):
            assert f"{name}: enforced: position" in findings["limits"].text
        composite.stop("the red button")
        for part in parts:
            with pytest.raises(DeviceError, match="the red button"):
                part.command(start[:7], now_ns())
        assert {event.data["robot"] for event in composite.safety_events()[-2:]} == {"robot0", "robot1"}
        composite.release()
        composite.command(poses(composite), now_ns())


def test_one_that_dies_is_named_when_all_are_stopped_and_the_other_is_stopped():
    parts = pair()
    with CompositeRobot(parts) as composite:
        os.kill(parts[0].pid, signal.SIGKILL)
        with pytest.raises(DeviceError, match=r"could not be stopped: robot0: .*SIGKILL"):
            composite.stop("smoke")
        with pytest.raises(DeviceError, match="smoke"):
            parts[1].command(np.zeros(7), now_ns())
        with pytest.raises(DeviceError, match="SIGKILL"):
            composite.state()
    assert [part.pid for part in parts] == [None, None]
