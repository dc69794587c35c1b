"""Parking: straight, slow, from the last commanded target, and never against a stop."""

import numpy as np
import pytest
from runtime_targets import PointRobot

from robopolicy_datasets.errors import ConfigError, DeviceError, SpecError
from robopolicy_drivers.runtime.parking import RATE_HZ, park

pytestmark = pytest.mark.realtime


def test_it_goes_straight_from_the_last_commanded_target_at_a_bounded_speed():
    robot = PointRobot()
    start, goal = np.array([0.02, 0.0]), np.array([0.08, 0.08])
    sent = park(robot, start, goal, speed_m=0.2)
    targets = np.array([start, *(target for _, target, _ in robot.commands)])
    steps = np.linalg.norm(np.diff(targets, axis=0), axis=1)
    assert len(targets) > 5
    assert steps.max() <= 0.2 / RATE_HZ * (1 + 1e-9)
    np.testing.assert_allclose((targets - start) @ np.array([0.8, -0.6]), 0, atol=1e-12)
    np.testing.assert_array_equal(sent, goal)
    np.testing.assert_array_equal(targets[-1], goal)


def test_a_stop_on_the_way_ends_it():
    robot = PointRobot()
    command = robot.command

    def stopping(target, at_ns):
        if len(robot.commands) == 3:
            raise DeviceError("The robot was stopped: the red button.")
        return command(target, at_ns)

    robot.command = stopping
    with pytest.raises(DeviceError, match="red button"):
        park(robot, np.zeros(2), np.array([0.1, 0.0]))
    assert len(robot.commands) == 3


def test_what_does_not_fit_is_refused_before_anything_moves():
    robot = PointRobot()
    with pytest.raises(SpecError, match="goal"):
        park(robot, np.zeros(2), np.zeros(3))
    with pytest.raises(SpecError, match="start"):
        park(robot, np.array([np.nan, 0]), np.zeros(2))
    with pytest.raises(ConfigError, match="speed_m"):
        park(robot, np.zeros(2), np.ones(2), speed_m=0.0)
    assert robot.commands == []
