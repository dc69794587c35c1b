"""The waypoint interpolator: bounded speed and acceleration, no jumps, on time where possible."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.interpolate import CubicHermiteSpline
from scipy.spatial.transform import Rotation, Slerp

from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_datasets.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from robopolicy_drivers.realtime.interpolator import WaypointInterpolator, WaypointPart
from robopolicy_drivers.realtime.rotations import angular_velocity, rate_of_turn

SPEED, ACCELERATION, TURN_SPEED, TURN_ACCELERATION = 0.5, 4.0, 2.0, 20.0
PARTS = (
    WaypointPart(3, SPEED, ACCELERATION),
    WaypointPart(3, TURN_SPEED, TURN_ACCELERATION, "rotation"),
    WaypointPart(1, kind="immediate"),
)
SECOND = 10**9
TICK = SECOND // 250

poses = arrays(np.float64, 7, elements=st.floats(-3, 3, width=32))
near = arrays(np.float64, 7, elements=st.floats(-0.25, 0.25, width=32))
turns = arrays(np.float64, 3, elements=st.floats(-1.75, 1.75, width=32))
# Waypoint by waypoint: where, how long ahead, and how many ticks until the next one is scheduled.
plans = st.lists(
    st.tuples(poses | near, st.integers(-SECOND, 2 * SECOND), st.integers(1, 60)), min_size=1, max_size=6
)


def line(speed=np.inf, acceleration=np.inf, size=1, start=0.0) -> WaypointInterpolator:
    return WaypointInterpolator(np.full(size, start), (WaypointPart(size, speed, acceleration),))


def sampled(trajectory, begin, end, count=400) -> tuple[np.ndarray, np.ndarray]:
    times = np.linspace(begin, end, count).astype(np.int64)
    return times / SECOND, np.array([trajectory.evaluate(int(time)) for time in times])


def angle_between(first, second) -> float:
    return float((Rotation.from_rotvec(first).inv() * Rotation.from_rotvec(second)).magnitude())


@given(poses, plans)
def test_speed_and_acceleration_are_bounded_and_the_last_waypoint_is_reached(start, plan):
    trajectory = WaypointInterpolator(start, PARTS)
    now, states = 0, [trajectory.evaluate(0)] * 2
    for target, ahead, ticks in plan:
        trajectory.schedule(target, now + ahead, now)
        for _ in range(ticks):
            now += TICK
            states.append(trajectory.evaluate(now))
    velocity = np.diff([state[:3] for state in states], axis=0) * SECOND / TICK
    assert np.linalg.norm(velocity, axis=1).max() <= SPEED * (1 + 1e-6)
    change = np.diff(velocity, axis=0) * SECOND / TICK
    assert np.linalg.norm(change, axis=1).max() <= ACCELERATION * (1 + 1e-6)
    for before, after in itertools.pairwise(states):
        assert angle_between(before[3:6], after[3:6]) <= TURN_SPEED * (1 + 1e-6) * TICK / SECOND + 1e-7
    end = trajectory.evaluate(trajectory.finish_ns)
    np.testing.assert_allclose(end, plan[-1][0], atol=1e-9)


@example([(-0.03, 0.09, 290), (0.01, 0.08, 50), (0.08, 0.08, 470), (0.0, 0.02, 110)])
@given(st.lists(st.tuples(*[st.floats(-0.1, 0.1)] * 2, st.integers(50, 500)), min_size=2, max_size=4))
def test_a_zigzag_is_not_passed_faster_than_allowed(corners):
    """A corner's velocity alone may be the largest that is allowed, in another direction than the ways."""
    trajectory, at_ns = line(SPEED, 50.0, size=2), 0
    for *corner, milliseconds in corners:
        at_ns += milliseconds * SECOND // 1000
        trajectory.schedule(corner, at_ns, 0)
    times, states = sampled(trajectory, 0, trajectory.finish_ns, 1500)
    velocity = np.diff(states, axis=0) / np.diff(times)[:, None]
    assert np.linalg.norm(velocity, axis=1).max() <= SPEED * (1 + 1e-6)


@given(turns, st.lists(turns, min_size=1, max_size=4))
def test_angular_velocity_does_not_jump(start, targets):
    """Over the bounds of segments whose axis-angles begin at different rotations."""
    trajectory = WaypointInterpolator(start, (WaypointPart(3, 6.0, 20.0, "rotation"),))
    for number, target in enumerate(targets):
        trajectory.schedule(target, (number + 1) * SECOND // 4, 0)
    times, states = sampled(trajectory, 0, trajectory.finish_ns, 2000)
    rotations = Rotation.from_rotvec(states)
    velocity = (rotations[:-1].inv() * rotations[1:]).as_rotvec() / np.diff(times)[:, None]
    change = np.linalg.norm(np.diff(velocity, axis=0), axis=1) / times[1]
    assert change.max() <= 2 * 20.0 + 1e-3 / times[1]


@given(arrays(np.float64, 3, elements=st.floats(-0.125, 0.125, width=32)))
def test_small_turns_keep_the_angular_acceleration(target):
    trajectory = WaypointInterpolator(np.zeros(3), (WaypointPart(3, 6.0, 20.0, "rotation"),))
    trajectory.schedule(target, 1, 0)
    times, states = sampled(trajectory, 0, trajectory.finish_ns, 200)
    velocity = np.diff(states, axis=0) / np.diff(times)[:, None]
    assert np.linalg.norm(np.diff(velocity, axis=0), axis=1).max() <= 20.0 * times[1] * 1.02 + 1e-9


@given(poses, poses, st.floats(0, 1))
def test_from_rest_to_rest_it_follows_the_straight_line_and_the_geodesic(start, end, share):
    if angle_between(start[3:6], end[3:6]) > np.pi - 1e-3:
        return
    trajectory = WaypointInterpolator(
        start, (WaypointPart(3), WaypointPart(3, kind="rotation"), WaypointPart(1))
    )
    assert trajectory.schedule(end, SECOND, 0) == SECOND
    state = trajectory.evaluate(round(share * SECOND))
    share = round(share * SECOND) / SECOND
    eased = share**2 * (3 - 2 * share)
    slerp = Slerp([0, 1], Rotation.from_rotvec([start[3:6], end[3:6]]))(eased)
    np.testing.assert_allclose(axis_angle_to_matrix(state[3:6]), slerp.as_matrix(), atol=1e-6)
    np.testing.assert_allclose(state[:3], start[:3] + eased * (end[:3] - start[:3]), atol=1e-6)


def test_a_waypoint_with_a_successor_is_passed_on_the_hermite_spline():
    trajectory = line(size=2)
    for number, point in enumerate([[0.1, 0.0], [0.3, 0.1], [0.3, 0.2]], start=1):
        assert trajectory.schedule(point, number * SECOND, 0) == number * SECOND
    points = np.array([[0.0, 0.0], [0.1, 0.0], [0.3, 0.1], [0.3, 0.2]])
    slopes = np.array([[0.0, 0.0], [0.15, 0.05], [0.1, 0.1], [0.0, 0.0]])
    times, states = sampled(trajectory, 0, 3 * SECOND)
    np.testing.assert_allclose(states, CubicHermiteSpline(range(4), points, slopes)(times), atol=1e-6)


def test_a_steady_motion_is_left_alone():
    """Rows that come step by step, each with the next as a preview, give a constant speed."""
    trajectory = line(1.0, 5.0)
    velocities = []
    for step in range(40):
        now = step * SECOND // 10
        for ahead in (1, 2):
            trajectory.schedule([0.02 * (step + ahead)], now + ahead * SECOND // 10, now)
        times, states = sampled(trajectory, now, now + SECOND // 10, 20)
        velocities.append(np.diff(states[:, 0]) / np.diff(times))
    np.testing.assert_allclose(velocities[20:], 0.2, rtol=1e-3)


def test_a_waypoint_for_much_later_makes_no_detour():
    """A cubic through both states would run on for seconds: 4/27 of speed times duration."""
    trajectory = line(1.0, 5.0)
    trajectory.schedule([1.0], 1, 0)
    now = trajectory.finish_ns // 2
    place, speed = trajectory.evaluate(now)[0], 1.5 / trajectory.finish_ns * SECOND
    trajectory.schedule([place], now + 30 * SECOND, now)
    _, states = sampled(trajectory, now, now + 30 * SECOND, 3000)
    assert states.max() - place <= 0.9 * speed**2 / 5.0
    assert states.min() >= place - 1e-9


def test_a_target_that_is_commanded_again_and_again_is_reached_without_a_detour():
    """Each command is for soon, which is too early; the ones before are still waypoints."""
    trajectory = line(1.5, 5.0)
    places = []
    for now in range(0, 2 * SECOND, SECOND // 10):
        trajectory.schedule([0.25], now + SECOND // 5, now)
        places += [*sampled(trajectory, now, now + SECOND // 10, 20)[1][:, 0]]
    assert (np.diff(places) >= -1e-9).all()
    assert max(places) <= 0.25 + 1e-9
    assert places[160] == 0.25  # 0.8 s; the shortest cubic takes 0.55 s


def test_a_new_waypoint_replaces_the_later_ones_from_the_commanded_state():
    trajectory = line(5.0, 20.0)
    trajectory.schedule([0.5], SECOND, 0)
    before = trajectory.evaluate(SECOND // 2)
    trajectory.schedule([0.0], SECOND, SECOND // 2)
    np.testing.assert_allclose(trajectory.evaluate(SECOND // 2), before)
    assert trajectory.finish_ns == SECOND
    np.testing.assert_allclose(trajectory.evaluate(2 * SECOND), [0.0])


def test_the_waypoint_before_a_time_is_known():
    trajectory = line()
    trajectory.schedule([1.0], SECOND, 0)
    trajectory.schedule([3.0], 2 * SECOND, 0)
    assert trajectory.before(2 * SECOND, 0) == [1.0]
    assert trajectory.before(3 * SECOND, 0) == [3.0]
    assert trajectory.before(SECOND, 0) == [0.0]
    assert trajectory.before(9 * SECOND, 5 * SECOND) == [3.0]


@pytest.mark.parametrize("at_ns", [-5 * SECOND, SECOND])
def test_a_late_or_far_waypoint_is_reached_almost_as_soon_as_a_cubic_may(at_ns):
    by_speed, by_acceleration = line(0.5, 1e3), line(1e3, 1.5)
    assert 3 * SECOND <= by_speed.schedule([1.0], at_ns, 0) <= 3.3 * SECOND
    assert 2 * SECOND <= by_acceleration.schedule([1.0], at_ns, 0) <= 2.2 * SECOND


@given(st.floats(0.05, 0.95))
def test_hold_brakes_along_the_way_within_the_limit(share):
    trajectory = line(2.0, 5.0)
    finish = trajectory.schedule([1.0], 1, 0)
    now = round(share * finish)
    place = trajectory.evaluate(now)
    rest = trajectory.hold(now)
    end = trajectory.finish_ns
    times, states = sampled(trajectory, now, end)
    velocity = np.diff(states[:, 0]) / np.diff(times)
    assert (velocity >= -1e-9).all()
    assert (np.diff(velocity) <= 1e-6).all()
    assert np.abs(np.diff(velocity)).max() <= 5.0 * (times[1] - times[0]) * (1 + 1e-3) + 1e-9
    np.testing.assert_allclose(trajectory.evaluate(end + 9 * SECOND), rest)
    assert rest[0] >= place[0]


def test_hold_at_rest_stays_where_it_is():
    trajectory = WaypointInterpolator(np.arange(7.0), PARTS)
    np.testing.assert_allclose(trajectory.hold(SECOND), np.arange(7.0), atol=1e-12)
    np.testing.assert_allclose(trajectory.evaluate(9 * SECOND), np.arange(7.0), atol=1e-12)


def test_an_immediate_part_is_given_its_next_value_at_once():
    trajectory = WaypointInterpolator(np.zeros(2), (WaypointPart(1), WaypointPart(1, kind="immediate")))
    trajectory.schedule([1.0, 0.08], SECOND, 0)
    trajectory.schedule([1.0, 0.02], 2 * SECOND, 0)
    assert trajectory.evaluate(1)[1] == 0.08
    assert trajectory.evaluate(SECOND + 1)[1] == 0.02


def test_a_trajectory_may_have_immediate_parts_only():
    trajectory = WaypointInterpolator(np.zeros(1), (WaypointPart(1, kind="immediate"),))
    trajectory.schedule([0.08], SECOND, 0)
    assert trajectory.schedule([0.02], 2 * SECOND, 0) == 2 * SECOND
    assert [trajectory.evaluate(time)[0] for time in (1, SECOND + 1, 3 * SECOND)] == [0.08, 0.02, 0.02]


def test_a_half_turn_of_the_representation_is_no_motion():
    tool_down = np.array([np.pi, 0.0, 0.0])
    same = matrix_to_axis_angle(axis_angle_to_matrix(-tool_down))
    trajectory = WaypointInterpolator(tool_down, (WaypointPart(3, 1.0, 5.0, "rotation"),))
    assert trajectory.schedule(same, 1, 0) < SECOND // 1000


@given(turns, turns)
def test_the_rates_of_turns_are_those_of_finite_differences(turn, rate):
    step = 1e-6
    after, before = (Rotation.from_rotvec(turn + sign * step * rate) for sign in (1, -1))
    expected = (before.inv() * after).as_rotvec() / (2 * step)
    velocity = angular_velocity(turn.tolist(), rate.tolist())
    np.testing.assert_allclose(velocity, expected, atol=1e-6)
    np.testing.assert_allclose(rate_of_turn(turn.tolist(), velocity), rate, atol=1e-6)


def test_bad_input_is_refused():
    trajectory = line(1.0, size=2)
    with pytest.raises(SpecError, match=r"\(2,\)"):
        trajectory.schedule([1.0], 1, 0)
    with pytest.raises(SpecError, match="finite"):
        trajectory.schedule([1.0, np.nan], 1, 0)
    with pytest.raises(ConfigError, match="above 0"):
        WaypointPart(2, 0.0)
    with pytest.raises(ConfigError, match="above 0"):
        WaypointPart(2, 1.0, -1.0)
    with pytest.raises(ConfigError, match="size 3"):
        WaypointPart(2, 1.0, kind="rotation")
