"""The waypoint interpolator: bounded speed, no jumps, on time where possible."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation, Slerp

from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_datasets.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from robopolicy_drivers.realtime.interpolator import WaypointInterpolator, WaypointPart

PARTS = (WaypointPart(3, 0.5), WaypointPart(3, 2.0, "rotation"), WaypointPart(1, kind="immediate"))
SECOND = 10**9

poses = arrays(np.float64, 7, elements=st.floats(-3, 3, width=32))
waypoints = st.lists(st.tuples(poses, st.integers(-SECOND, 2 * SECOND)), min_size=1, max_size=6)


def angle_between(first, second) -> float:
    return float((Rotation.from_rotvec(first).inv() * Rotation.from_rotvec(second)).magnitude())


@given(poses, waypoints)
def test_speed_is_bounded_and_the_last_waypoint_is_reached(start, plan):
    trajectory = WaypointInterpolator(start, PARTS)
    now, step = 0, SECOND // 50
    before = trajectory.evaluate(now)
    for target, ahead in plan:
        trajectory.schedule(target, now + ahead, now)
        for _ in range(10):
            now += step
            state = trajectory.evaluate(now)
            assert np.linalg.norm(state[:3] - before[:3]) <= 0.5 * step / SECOND + 1e-6
            assert angle_between(before[3:6], state[3:6]) <= 2.0 * step / SECOND + 1e-6
            before = state
    end = trajectory.evaluate(trajectory.finish_ns)
    np.testing.assert_allclose(end[:3], plan[-1][0][:3], atol=1e-9)
    np.testing.assert_allclose(end[3:], plan[-1][0][3:], atol=1e-9)


@given(poses, poses, st.floats(0, 1))
def test_rotation_follows_the_geodesic(start, end, share):
    if angle_between(start[3:6], end[3:6]) > np.pi - 1e-3:
        return
    trajectory = WaypointInterpolator(
        start, (WaypointPart(3), WaypointPart(3, kind="rotation"), WaypointPart(1))
    )
    trajectory.schedule(end, SECOND, 0)
    state = trajectory.evaluate(round(share * SECOND))
    slerp = Slerp([0, 1], Rotation.from_rotvec([start[3:6], end[3:6]]))(round(share * SECOND) / SECOND)
    np.testing.assert_allclose(axis_angle_to_matrix(state[3:6]), slerp.as_matrix(), atol=1e-6)
    np.testing.assert_allclose(state[:3], start[:3] + share * (end[:3] - start[:3]), atol=1e-6)


def test_a_waypoint_within_the_limits_is_met_on_time():
    trajectory = WaypointInterpolator(np.zeros(2), (WaypointPart(2, 1.0),))
    assert trajectory.schedule([0.1, 0.0], SECOND, 0) == SECOND
    assert trajectory.schedule([0.1, 0.2], 2 * SECOND, 0) == 2 * SECOND
    np.testing.assert_allclose(trajectory.evaluate(SECOND // 2), [0.05, 0.0])
    np.testing.assert_allclose(trajectory.evaluate(SECOND), [0.1, 0.0])
    np.testing.assert_allclose(trajectory.evaluate(3 * SECOND // 2), [0.1, 0.1])


def test_a_new_waypoint_replaces_the_later_ones_from_the_commanded_state():
    trajectory = WaypointInterpolator(np.zeros(1), (WaypointPart(1, 1.0),))
    trajectory.schedule([1.0], SECOND, 0)
    trajectory.schedule([0.0], SECOND, SECOND // 2)
    np.testing.assert_allclose(trajectory.evaluate(SECOND // 2), [0.5])
    assert trajectory.finish_ns == SECOND
    np.testing.assert_allclose(trajectory.evaluate(2 * SECOND), [0.0])


def test_a_late_or_far_waypoint_is_reached_as_soon_as_allowed():
    trajectory = WaypointInterpolator(np.zeros(1), (WaypointPart(1, 0.5),))
    assert trajectory.schedule([1.0], -5 * SECOND, 0) == 2 * SECOND
    assert trajectory.schedule([1.0], SECOND, 0) == 2 * SECOND


def test_hold_stays_at_the_commanded_state():
    trajectory = WaypointInterpolator(np.zeros(1), (WaypointPart(1, 1.0),))
    trajectory.schedule([1.0], SECOND, 0)
    np.testing.assert_allclose(trajectory.hold(SECOND // 4), [0.25])
    np.testing.assert_allclose(trajectory.evaluate(9 * SECOND), [0.25])


def test_an_immediate_part_is_given_its_next_value_at_once():
    trajectory = WaypointInterpolator(np.zeros(2), (WaypointPart(1), WaypointPart(1, kind="immediate")))
    trajectory.schedule([1.0, 0.08], SECOND, 0)
    np.testing.assert_allclose(trajectory.evaluate(1), [1e-9, 0.08])


def test_a_half_turn_of_the_representation_is_no_motion():
    tool_down = np.array([np.pi, 0.0, 0.0])
    same = matrix_to_axis_angle(axis_angle_to_matrix(-tool_down))
    trajectory = WaypointInterpolator(tool_down, (WaypointPart(3, 1.0, "rotation"),))
    assert trajectory.schedule(same, 1, 0) < 1000


def test_bad_input_is_refused():
    trajectory = WaypointInterpolator(np.zeros(2), (WaypointPart(2, 1.0),))
    with pytest.raises(SpecError, match=r"\(2,\)"):
        trajectory.schedule([1.0], 1, 0)
    with pytest.raises(SpecError, match="finite"):
        trajectory.schedule([1.0, np.nan], 1, 0)
    with pytest.raises(ConfigError, match="above 0"):
        WaypointPart(2, 0.0)
    with pytest.raises(ConfigError, match="size 3"):
        WaypointPart(2, 1.0, "rotation")
