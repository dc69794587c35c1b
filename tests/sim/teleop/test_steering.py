"""From held keys to targets: along the world's axes, within limits, and without drift."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robopolicy_datasets.geometry import axis_angle_to_matrix, matrix_to_axis_angle, pose_matrix
from robopolicy_sim.teleop.steering import MOVES, SLOW, TURNS, ToolTarget, direction, person_axes

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
    return ToolTarget(pose, LOWER, UPPER, LEAD)


@given(poses, st.lists(poses, max_size=5))
def test_without_a_key_the_target_stays_wherever_the_tool_goes(start, measured):
    target = target_at(start)
    before = target.command
    for pose in measured:
        target.move(0.015 * direction({"space", "left shift"}, MOVES), STILL, pose)
    np.testing.assert_array_equal(target.command, before)
    np.testing.assert_array_equal(target.pose, start)


@given(poses, keys)
def test_a_step_from_where_the_tool_is_goes_where_the_keys_say(start, held):
    target = target_at(start)
    shift, turn = 0.015 * direction(held, MOVES), 0.08 * direction(held, TURNS)
    target.move(shift, turn, start)
    np.testing.assert_allclose(target.pose[:3, 3] - start[:3, 3], shift, atol=1e-12)
    turned = matrix_to_axis_angle(start[:3, :3].T @ target.pose[:3, :3])
    np.testing.assert_allclose(turned, turn, atol=1e-9)


@given(poses, moves_away, st.lists(keys, min_size=1, max_size=30))
def test_a_target_is_never_far_ahead_nor_behind_along_a_movement(start, away, presses):
    """Whatever was held before, and wherever the tool got stuck."""
    target, stuck = target_at(start), start @ away
    for held in presses:
        shift, turn = 0.015 * direction(held, MOVES), 0.08 * direction(held, TURNS)
        target.move(shift, turn, stuck)
        if shift.any():
            along = (target.pose[:3, 3] - stuck[:3, 3]) @ shift / np.linalg.norm(shift)
            assert -1e-12 <= along <= LEAD[0] + 1e-12
        np.testing.assert_allclose(target.pose[:3, :3] @ target.pose[:3, :3].T, np.eye(3), atol=1e-9)


@given(poses, keys, st.integers(0, 150))
def test_a_target_stays_within_the_limits_of_commands(start, held, times):
    target = target_at(start)
    for _ in range(times):
        target.move(0.045 * direction(held, MOVES), STILL, target.pose)  # a tool that follows at once
    assert (target.command >= LOWER).all()
    assert (target.command <= UPPER).all()


@given(st.sampled_from([*TURNS]), st.integers(1, 40))
def test_turning_a_tool_that_does_not_turn_stops_ahead_of_it(key, times):
    target = target_at(np.eye(4))
    for _ in range(times):
        target.move(STILL, 0.08 * direction({key}, TURNS), np.eye(4))
    expected = min(0.08 * times, LEAD[1]) * np.array(TURNS[key])
    np.testing.assert_allclose(matrix_to_axis_angle(target.pose[:3, :3]), expected, atol=1e-9)


@given(poses, st.sampled_from([("w", "s"), ("a", "d"), ("r", "f"), ("up", "down")]), st.integers(1, 20))
def test_the_other_way_begins_at_the_tool(start, pair, times):
    target = target_at(start)
    for _ in range(times):
        target.move(0.015 * direction({pair[0]}, MOVES), STILL, start)
    back = 0.015 * direction({pair[1]}, MOVES)
    target.move(back, STILL, start)
    np.testing.assert_allclose(target.pose[:3, 3] - start[:3, 3], back, atol=1e-12)


@given(keys)
def test_directions_are_bounded_and_slower_with_shift(held):
    for table in (MOVES, TURNS):
        fast = direction(held - {"left shift"}, table)
        assert set(np.abs(fast)) <= {0.0, 1.0}
        np.testing.assert_array_equal(direction(held | {"left shift"}, table), SLOW * fast)


def test_opposite_keys_cancel_and_equal_ones_do_not_add():
    assert not direction({"w", "down"}, MOVES).any()
    np.testing.assert_array_equal(direction({"a", "left", "r"}, MOVES), [0, 1, 1])


def test_every_key_has_one_meaning():
    assert not set(MOVES) & set(TURNS)
    for table in (MOVES, TURNS):
        assert np.sum(list(table.values()), axis=0).tolist() == [0, 0, 0]  # each way has its opposite
        assert len(set(table.values())) == 6


@given(st.floats(-np.pi, np.pi), st.floats(-1.6, 1.6))
def test_away_is_the_world_axis_along_which_the_camera_looks(yaw, pitch):
    """For a camera without roll, even one that looks straight down."""
    level = Rotation.from_matrix([[0, 0, -1], [-1, 0, 0], [0, 1, 0]])  # looks along x, up is z
    axes = person_axes((Rotation.from_euler("ZY", [yaw, pitch]) * level).as_matrix())
    assert set(np.abs(axes).flat) == {0.0, 1.0}
    assert np.linalg.det(axes) == pytest.approx(1.0)
    np.testing.assert_array_equal(axes[:, 2], [0, 0, 1])
    looks = np.array([np.cos(yaw), np.sin(yaw), 0.0])
    assert looks @ axes[:, 0] >= np.sqrt(0.5) - 1e-9


def test_the_gripper_toggles_between_its_limits():
    target = target_at(np.eye(4))
    widths = [target.command[6]]
    for _ in range(3):
        target.toggle_gripper()
        widths.append(target.command[6])
    assert widths == [0.085, 0.01, 0.085, 0.01]
