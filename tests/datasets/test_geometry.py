"""Laws of SE(3), at all angles, those near 0 and pi too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robopolicy_datasets import geometry

EXACT = {"atol": 1e-9, "rtol": 0}
NEAR_ANGLES = [0.0, 1e-12, 1e-7, 1e-3, np.pi - 1e-3, np.pi - 1e-7, np.pi - 1e-12, np.pi]


@st.composite
def axis_angles(draw):
    angle = draw(st.one_of(st.sampled_from(NEAR_ANGLES), st.floats(0, np.pi)))
    axis = np.array(draw(st.tuples(*[st.floats(-1, 1)] * 3)))
    if np.linalg.norm(axis) < 1e-3:
        axis = np.array([0.0, 0.0, 1.0])
    return axis / np.linalg.norm(axis) * angle


@st.composite
def poses(draw):
    position = np.array(draw(st.tuples(*[st.floats(-10, 10)] * 3)))
    return geometry.pose_matrix(position, geometry.axis_angle_to_matrix(draw(axis_angles())))


@given(axis_angles())
def test_a_rotation_matrix_is_orthonormal_and_right_handed(rotation):
    matrix = geometry.axis_angle_to_matrix(rotation)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), **EXACT)
    assert np.linalg.det(matrix) == pytest.approx(1)


@given(axis_angles())
def test_every_representation_leads_back_to_the_same_rotation(rotation):
    matrix = geometry.axis_angle_to_matrix(rotation)
    back = geometry.matrix_to_axis_angle(matrix)
    assert np.linalg.norm(back) <= np.pi + 1e-9
    np.testing.assert_allclose(geometry.axis_angle_to_matrix(back), matrix, atol=1e-7)
    np.testing.assert_allclose(
        geometry.quaternion_to_matrix(geometry.matrix_to_quaternion(matrix)), matrix, **EXACT
    )
    np.testing.assert_allclose(geometry.rot6d_to_matrix(geometry.matrix_to_rot6d(matrix)), matrix, **EXACT)


@given(axis_angles())
def test_axis_angle_survives_away_from_pi(rotation):
    if np.linalg.norm(rotation) < np.pi - 1e-2:
        back = geometry.matrix_to_axis_angle(geometry.axis_angle_to_matrix(rotation))
        np.testing.assert_allclose(back, rotation, atol=1e-7)


@given(poses(), poses(), poses())
def test_poses_are_a_group(a, b, c):
    np.testing.assert_allclose((a @ b) @ c, a @ (b @ c), atol=1e-8)
    np.testing.assert_allclose(a @ geometry.invert_pose(a), np.eye(4), **EXACT)
    np.testing.assert_allclose(geometry.invert_pose(a) @ a, np.eye(4), **EXACT)
    np.testing.assert_allclose(
        geometry.invert_pose(a @ b), geometry.invert_pose(b) @ geometry.invert_pose(a), atol=1e-8
    )


@given(poses(), poses(), poses())
def test_relative_poses_undo_and_ignore_a_change_of_world(base, pose, world):
    relative = geometry.relative_pose(base, pose)
    np.testing.assert_allclose(base @ relative, pose, atol=1e-8)
    np.testing.assert_allclose(geometry.relative_pose(world @ base, world @ pose), relative, atol=1e-8)
    np.testing.assert_allclose(geometry.relative_pose(base, base), np.eye(4), **EXACT)


@given(poses())
def test_a_pose_vector_leads_back_to_the_pose(pose):
    np.testing.assert_allclose(geometry.pose_from_vector(geometry.pose_to_vector(pose)), pose, atol=1e-7)


def test_rot6d_is_the_first_two_rows():
    quarter_turn_about_z = geometry.axis_angle_to_matrix(np.array([0, 0, np.pi / 2]))
    np.testing.assert_allclose(geometry.matrix_to_rot6d(quarter_turn_about_z), [0, -1, 0, 1, 0, 0], **EXACT)
    matrix = np.arange(9.0).reshape(3, 3)
    np.testing.assert_array_equal(geometry.matrix_to_rot6d(matrix), [0, 1, 2, 3, 4, 5])


def test_rot6d_need_not_be_orthonormal():
    matrix = geometry.rot6d_to_matrix(np.array([2.0, 0, 0, 1.0, 3.0, 0]))
    np.testing.assert_allclose(matrix, np.eye(3), **EXACT)


def test_quaternions_are_wxyz_with_w_not_negative():
    half_angle = np.pi / 6
    matrix = geometry.axis_angle_to_matrix(np.array([2 * half_angle, 0, 0]))
    expected = [np.cos(half_angle), np.sin(half_angle), 0, 0]
    np.testing.assert_allclose(geometry.matrix_to_quaternion(matrix), expected, **EXACT)
    np.testing.assert_allclose(geometry.quaternion_to_matrix(-3 * np.array(expected)), matrix, **EXACT)
    assert geometry.matrix_to_quaternion(geometry.axis_angle_to_matrix(np.array([0, 0, -3.0])))[0] >= 0


def test_leading_axes_are_batches():
    vectors = np.random.default_rng(0).normal(size=(4, 5, 6))
    poses = geometry.pose_from_vector(vectors)
    assert poses.shape == (4, 5, 4, 4)
    np.testing.assert_allclose(poses[2, 3], geometry.pose_from_vector(vectors[2, 3]))
    assert geometry.pose_to_vector(poses).shape == (4, 5, 6)
    rotations = poses[..., :3, :3]
    assert geometry.matrix_to_quaternion(rotations).shape == (4, 5, 4)
    assert geometry.matrix_to_rot6d(rotations).shape == (4, 5, 6)
    assert geometry.rot6d_to_matrix(geometry.matrix_to_rot6d(rotations)).shape == (4, 5, 3, 3)
