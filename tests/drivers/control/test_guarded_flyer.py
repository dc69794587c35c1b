"""A guarded flyer keeps to its limits whatever is commanded, and a stop brakes to a hover."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robopolicy_datasets.clock import seconds_to_ns
from robopolicy_datasets.errors import ConfigError, DeviceError
from robopolicy_datasets.geometry import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    pose_matrix,
    pose_to_vector,
    rot6d_to_matrix,
)
from robopolicy_drivers.control.guarded_flyer import GuardedFlyer
from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_drivers.safety.checks import Geofence
from robopolicy_drivers.safety.configs import SafetyConfig

PERIOD_S = 0.02
BASE = load_embodiment("aerial_manipulator").flying_base
TOOL_DOWN = np.diag([1.0, -1.0, -1.0])
START = pose_matrix(np.array([0.4, 0.0, 0.3]), TOOL_DOWN)
LEVEL = pose_matrix(np.array([0.4, 0.0, 0.6]), np.eye(3))
FREE = SafetyConfig(step="off")


def target(move, turn=(0.0, 0.0, 0.0), width=0.05):
    pose = pose_matrix(START[:3, 3] + move, axis_angle_to_matrix(np.array(turn)) @ START[:3, :3])
    return np.r_[pose_to_vector(pose), width]


def fly(flyer, ticks, commands=(), base=LEVEL, first=0):
    """Ticks on, with (tick, target, seconds ahead) commanded at its tick; returns the poses and turns."""
    poses, turns = [], []
    for tick in range(first, first + ticks):
        now = seconds_to_ns(tick * PERIOD_S)
        for at, wanted, ahead_s in commands:
            if at == tick:
                flyer.command(wanted, now + seconds_to_ns(ahead_s), now)
        shaken = base.copy()
        shaken[2, 3] += 1e-6 * (tick % 2)  # what flies never measures the same twice
        poses.append(flyer.tick(now, shaken))
        turns.append(flyer.gate.sent[3:])
    return np.array(poses), np.array(turns)


moves = st.tuples(*[st.floats(-0.4, 0.4)] * 6)
commands = st.lists(st.tuples(st.integers(0, 60), moves, st.floats(-0.5, 1.5)), min_size=1, max_size=6)


@settings(max_examples=15, deadline=None)
@given(commands)
def test_speed_and_acceleration_stay_within_the_limits_of_the_base(given):
    flyer = GuardedFlyer(BASE, START, 0.1, period_s=PERIOD_S, config=FREE)
    poses, turns = fly(flyer, 90, [(tick, target(m[:3], m[3:]), ahead) for tick, m, ahead in given])
    for path, speed, acceleration in (
        (poses[:, :3, 3], BASE.velocity_limit, BASE.acceleration_limit),
        (turns, BASE.angular_velocity_limit, BASE.angular_acceleration_limit),
    ):
        velocity = np.diff(path, axis=0) / PERIOD_S
        assert np.abs(velocity).max() <= speed + 1e-9
        assert np.abs(np.diff(velocity, axis=0)).max() <= acceleration * PERIOD_S + 1e-9
    steps = matrix_to_axis_angle(poses[1:, :3, :3] @ np.swapaxes(poses[:-1, :3, :3], 1, 2))
    np.testing.assert_allclose(steps, np.diff(turns, axis=0), atol=1e-9)  # the turns are the tool's


@settings(max_examples=15, deadline=None)
@given(moves)
def test_a_target_is_reached_and_seen_ahead(move):
    flyer = GuardedFlyer(BASE, START, 0.1, period_s=PERIOD_S, config=FREE)
    wanted = target(move[:3], move[3:])
    repeated = [(tick, wanted, 2.0 - tick * PERIOD_S) for tick in range(0, 200, 20)]
    poses, _ = fly(flyer, 40, repeated)
    (reference,) = flyer.ahead(np.array([0.4]))
    later, _ = fly(flyer, 20, repeated, first=40)
    np.testing.assert_allclose(reference[:3], later[-1, :3, 3], atol=5e-3)
    np.testing.assert_allclose(rot6d_to_matrix(reference[3:]), later[-1, :3, :3], atol=2e-2)
    poses, _ = fly(flyer, 160, repeated, first=60)
    np.testing.assert_allclose(pose_to_vector(poses[-1])[:3], wanted[:3], atol=1e-6)
    np.testing.assert_allclose(poses[-1, :3, :3], axis_angle_to_matrix(wanted[3:6]), atol=1e-5)
    assert flyer.width == 0.05


def test_a_stop_brakes_along_the_way_ahead_and_hovers():
    flyer = GuardedFlyer(BASE, START, 0.1, period_s=PERIOD_S, config=FREE)
    repeated = [(tick, target([0.8, 0.0, 0.0]), 1.0) for tick in range(0, 40, 10)]
    fly(flyer, 40, repeated)
    assert flyer.gate.velocity[0] > 0.2
    flyer.gate.stop("the red button", seconds_to_ns(40 * PERIOD_S))
    fly(flyer, 1, first=40)
    seconds = PERIOD_S * np.arange(1, 60)
    ahead = flyer.ahead(seconds)
    braked, _ = fly(flyer, 59, first=41)
    np.testing.assert_allclose(ahead[:, :3], braked[:, :3, 3], atol=5e-3)
    assert not flyer.gate.velocity.any()
    np.testing.assert_array_equal(braked[-1], braked[-10])
    with pytest.raises(DeviceError, match="the red button"):
        flyer.command(target([0, 0, 0]), 0, 0)


def test_a_base_outside_its_geofence_or_tilted_too_far_is_stopped():
    outside = LEVEL.copy()
    outside[0, 3] = BASE.geofence_upper[0] + 0.1
    tilted = LEVEL @ pose_matrix(np.zeros(3), axis_angle_to_matrix(np.array([BASE.tilt_limit + 0.05, 0, 0])))
    for base, message in ((outside, "the vehicle stays between"), (tilted, "the tilt is limited")):
        flyer = GuardedFlyer(BASE, START, 0.1, period_s=PERIOD_S)
        fly(flyer, 2)
        assert not flyer.gate.stopped
        fly(flyer, 1, base=base, first=2)
        assert message in flyer.gate.stopped


def test_its_set_points_stay_in_the_workspace_and_in_the_geofence():
    lower, upper = np.array([0.0, -0.5, 0.1]), np.array([0.6, 0.5, 1.0])
    flyer = GuardedFlyer(BASE, START, 0.1, period_s=PERIOD_S, config=FREE, workspace=(lower, upper))
    poses, _ = fly(flyer, 200, [(tick, target([0.5, 0.0, -0.4]), 1.0) for tick in range(0, 200, 10)])
    assert (poses[:, :3, 3] >= lower - 1e-6).all()
    assert (poses[:, :3, 3] <= upper + 1e-6).all()
    flyer = GuardedFlyer(BASE, START, 0.1, period_s=PERIOD_S, config=FREE)
    poses, _ = fly(flyer, 300, [(tick, target([3.0, 0.0, 0.0]), 1.0) for tick in range(0, 300, 10)])
    assert 1.3 < poses[-1, 0, 3] <= BASE.geofence_upper[0] + 1e-6


def test_a_geofence_that_is_no_box_is_refused():
    with pytest.raises(ConfigError, match=r"A geofence from .* is no box"):
        Geofence(np.ones(3), np.zeros(3))
