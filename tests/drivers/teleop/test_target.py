"""From held keys to targets: along the world's axes, within limits, and without drift."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from robopolicy_datasets.geometry import axis_angle_to_matrix, matrix_to_axis_angle, pose_matrix
from robopolicy_drivers.teleop.keys import MOVES, SLOW, TURNS, twist_of
from robopolicy_drivers.teleop.target import ToolTarget

LOWER = np.array([-1.5, -1.5, -1.5, -np.pi, -np.pi, -np.pi, 0.01])
UPPER = np.array([1.5, 1.5, 1.5, np.pi, np.pi, np.pi, 0.085])
LEAD = (0.045, 0.24)
STILL = np.zeros(3)


def vectors(largest):
    return st.tuples(*[st.floats(-largest, largest)] * 3).map(np.array)


def poses_within(distance):
    return st.builds(lambda p, r: pose_matrix(p, axis_angle_to_matrix(r)), vectors(distance), vectors(1.8))


poses, moves_away = poses_within(0.5), poses_within(0.1)
keys = st.frozensets(st.sampled_from([*MOVES, *TURNS, "left shift", "space", "p"]))


def target_at(pose):
    return ToolTarget(pose, 0.085, LOWER, UPPER, LEAD)


@given(poses, st.lists(poses, max_size=5))
def test_without_a_key_the_target_stays_wherever_the_tool_goes(start, measured):
    target = target_at(start)
    before = target.command
    for pose in measured:
        target.move(0.015 * twist_of({"space", "left shift"})[:3], STILL, pose)
    np.testing.assert_array_equal(target.command, before)
    np.testing.assert_array_equal(target.pose, start)


@given(poses, keys)
def test_a_step_from_where_the_tool_is_goes_where_the_keys_say(start, held):
    target = target_at(start)
    shift, turn = 0.015 * twist_of(held)[:3], 0.08 * twist_of(held)[3:]
    target.move(shift, turn, start)
    np.testing.assert_allclose(target.pose[:3, 3] - start[:3, 3], shift, atol=1e-12)
    turned = matrix_to_axis_angle(start[:3, :3].T @ target.pose[:3, :3])
    np.testing.assert_allclose(turned, turn, atol=1e-9)


@given(poses, moves_away, st.lists(keys, min_size=1, max_size=30))
def test_a_target_is_never_far_ahead_nor_behind_along_a_movement(start, away, presses):
    """Whatever was held before, and wherever the tool got stuck."""
    target, stuck = target_at(start), start @ away
    for held in presses:
        shift, turn = 0.015 * twist_of(held)[:3], 0.08 * twist_of(held)[3:]
        target.move(shift, turn, stuck)
        if shift.any():
            along = (target.pose[:3, 3] - stuck[:3, 3]) @ shift / np.linalg.norm(shift)
            assert -1e-12 <= along <= LEAD[0] + 1e-12
        np.testing.assert_allclose(target.pose[:3, :3] @ target.pose[:3, :3].T, np.eye(3), atol=1e-9)


@given(poses, keys, st.integers(0, 150))
def test_a_target_stays_within_the_limits_of_commands(start, held, times):
    target = target_at(start)
    for _ in range(times):
        target.move(0.045 * twist_of(held)[:3], STILL, target.pose)  # a tool that follows at once
    assert (target.command >= LOWER).all()
    assert (target.command <= UPPER).all()


@given(st.sampled_from([*TURNS]), st.integers(1, 40))
def test_turning_a_tool_that_does_not_turn_stops_ahead_of_it(key, times):
    target = target_at(np.eye(4))
    for _ in range(times):
        target.move(STILL, 0.08 * twist_of({key})[3:], np.eye(4))
    expected = min(0.08 * times, LEAD[1]) * np.array(TURNS[key])
    np.testing.assert_allclose(matrix_to_axis_angle(target.pose[:3, :3]), expected, atol=1e-9)


@given(poses, st.sampled_from([("w", "s"), ("a", "d"), ("r", "f"), ("up", "down")]), st.integers(1, 20))
def test_the_other_way_begins_at_the_tool(start, pair, times):
    target = target_at(start)
    for _ in range(times):
        target.move(0.015 * twist_of({pair[0]})[:3], STILL, start)
    back = 0.015 * twist_of({pair[1]})[:3]
    target.move(back, STILL, start)
    np.testing.assert_allclose(target.pose[:3, 3] - start[:3, 3], back, atol=1e-12)


@given(keys)
def test_directions_are_bounded_and_slower_with_shift(held):
    fast = twist_of(held - {"left shift"})
    assert set(np.abs(fast)) <= {0.0, 1.0}
    np.testing.assert_array_equal(twist_of(held | {"left shift"}), SLOW * fast)


def test_opposite_keys_cancel_and_equal_ones_do_not_add():
    assert not twist_of({"w", "down"})[:3].any()
    np.testing.assert_array_equal(twist_of({"a", "left", "r"})[:3], [0, 1, 1])


def test_every_key_has_one_meaning():
    assert not set(MOVES) & set(TURNS)
    for table in (MOVES, TURNS):
        assert np.sum(list(table.values()), axis=0).tolist() == [0, 0, 0]  # each way has its opposite
        assert len(set(table.values())) == 6


def test_the_gripper_toggles_between_its_limits():
    target = target_at(np.eye(4))
    widths = [target.command[6]]
    for _ in range(3):
        target.toggle_gripper()
        widths.append(target.command[6])
    assert widths == [0.085, 0.01, 0.085, 0.01]
