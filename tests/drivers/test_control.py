"""Kinematics against finite differences, inverse kinematics against its promises."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.geometry import axis_angle_to_matrix, matrix_to_axis_angle, pose_matrix
from robopolicy_drivers.control.differential_ik import DifferentialIK
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.control.rotation_group import rotation_vector
from robopolicy_drivers.embodiments import load_embodiment

EMBODIMENT = load_embodiment("ur5e")
KINEMATICS = Kinematics(EMBODIMENT)
JOINTS = st.lists(st.floats(-3.0, 3.0), min_size=6, max_size=6).map(np.array)
SMALL = st.lists(st.floats(-1.0, 1.0), min_size=6, max_size=6).map(np.array)


def moved(pose, twist):
    """The pose after a small displacement: position [m] and rotation [rad] in the base frame."""
    return pose_matrix(pose[:3, 3] + twist[:3], axis_angle_to_matrix(twist[3:]) @ pose[:3, :3])


def difference(target, pose):
    rotation = matrix_to_axis_angle(target[:3, :3] @ pose[:3, :3].T)
    return np.concatenate([target[:3, 3] - pose[:3, 3], rotation])


@given(JOINTS)
def test_jacobian_is_the_derivative_of_the_pose(positions):
    step = 1e-6
    columns = []
    for joint in range(6):
        offset = step * np.eye(6)[joint]
        ahead, behind = KINEMATICS.forward(positions + offset), KINEMATICS.forward(positions - offset)
        columns.append(difference(ahead, behind) / (2 * step))
    np.testing.assert_allclose(KINEMATICS.jacobian(positions), np.stack(columns, -1), atol=1e-7)


def test_batches_over_any_leading_axes_equal_single_calls():
    positions = np.random.default_rng(1).uniform(-3, 3, (2, 3, 6))
    poses, jacobians = KINEMATICS.forward_and_jacobian(positions)
    assert poses.shape == (2, 3, 4, 4)
    assert jacobians.shape == (2, 3, 6, 6)
    assert KINEMATICS.link_poses(positions).shape == (2, 3, 6, 4, 4)
    for index in np.ndindex(2, 3):
        np.testing.assert_allclose(poses[index], KINEMATICS.forward(positions[index]), atol=1e-14)
        np.testing.assert_allclose(jacobians[index], KINEMATICS.jacobian(positions[index]), atol=1e-14)


@given(SMALL)
def test_near_targets_away_from_singularities_are_reached(direction):
    twist = direction * np.repeat([0.04, 0.15], 3)
    start = EMBODIMENT.home_positions
    target = moved(KINEMATICS.forward(start), twist)
    solution = DifferentialIK(KINEMATICS, period_s=1.0).solve(target[None], start[None])[0]
    assert np.abs(difference(target, KINEMATICS.forward(solution))).max() < 2e-5


@given(JOINTS, JOINTS, st.sampled_from([0.008, 0.1]))
def test_limits_hold_for_any_target(positions, elsewhere, period):
    ik = DifferentialIK(KINEMATICS, period_s=period)
    solution = ik.solve(KINEMATICS.forward(elsewhere)[None], positions[None])[0]
    lower, upper = EMBODIMENT.position_limits.T
    assert np.all((solution >= lower) & (solution <= upper))
    assert np.all(np.abs(solution - positions) <= EMBODIMENT.velocity_limits * period * (1 + 1e-9))


def test_a_start_beyond_the_limits_is_brought_back():
    lower, upper = EMBODIMENT.position_limits.T
    start = EMBODIMENT.home_positions + np.array([0, 0, 9.0, 0, 0, 0])
    solution = DifferentialIK(KINEMATICS, period_s=0.1).solve(KINEMATICS.forward(start)[None], start[None])[0]
    assert np.all((solution >= lower) & (solution <= upper))


def test_a_far_target_is_reached_in_several_calls_with_warm_start():
    ik = DifferentialIK(KINEMATICS, period_s=0.1)
    positions = EMBODIMENT.home_positions[None]
    target = moved(KINEMATICS.forward(positions[0]), np.array([0.1, 0.2, -0.1, 0.0, 0.0, 1.0]))
    for _ in range(20):
        positions = ik.solve(target[None], positions)
    assert np.abs(difference(target, KINEMATICS.forward(positions[0]))).max() < 1e-5


def test_a_batch_is_solved_row_by_row():
    ik = DifferentialIK(KINEMATICS, period_s=0.1)
    random = np.random.default_rng(2)
    starts = EMBODIMENT.home_positions + random.uniform(-0.2, 0.2, (4, 6))
    targets = KINEMATICS.forward(starts + random.uniform(-0.1, 0.1, (4, 6)))
    together = ik.solve(targets, starts)
    for row in range(4):
        alone = ik.solve(targets[row : row + 1], starts[row : row + 1])[0]
        np.testing.assert_allclose(together[row], alone, atol=1e-12)


@given(st.lists(st.floats(-1.0, 1.0), min_size=3, max_size=3), st.floats(0.0, np.pi - 1e-3))
def test_fast_rotation_vector_equals_the_general_one(axis, angle):
    axis = np.array(axis)
    length = np.linalg.norm(axis)
    vector = angle * axis / length if length > 1e-3 else np.zeros(3)
    np.testing.assert_allclose(rotation_vector(axis_angle_to_matrix(vector)[None])[0], vector, atol=1e-7)


@pytest.mark.parametrize(
    "setting", [{"period_s": 0.0}, {"period_s": 0.1, "iterations": 0}, {"period_s": 0.1, "damping": 0.0}]
)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ConfigError, match="above 0"):
        DifferentialIK(KINEMATICS, **setting)
