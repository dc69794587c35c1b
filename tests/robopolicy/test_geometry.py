"""The torch geometry against its numpy twin, and its gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robopolicy import geometry
from robopolicy_datasets import geometry as reference

UNIT = st.floats(-1.0, 1.0)
ANGLES = st.one_of(
    st.floats(0.0, math.pi),
    st.sampled_from([0.0, 1e-12, 1e-7, 1e-4, 1.1e-4, math.pi - 1e-9, math.pi - 1e-4, math.pi]),
)


@st.composite
def axis_angles(draw):
    axis = np.array([draw(UNIT), draw(UNIT), draw(UNIT)])
    length = np.linalg.norm(axis)
    axis = axis / length if length > 1e-3 else np.array([0.0, 0.6, -0.8])
    return axis * draw(ANGLES)


@st.composite
def poses(draw):
    position = np.array([draw(UNIT), draw(UNIT), draw(UNIT)])
    return reference.pose_matrix(position, reference.axis_angle_to_matrix(draw(axis_angles())))


def numbers(*values):
    return [torch.from_numpy(np.asarray(value, dtype=np.float64)) for value in values]


@given(axis_angles())
def test_rotations_equal_the_numpy_twin(vector):
    (given_vector,) = numbers(vector)
    matrix = geometry.axis_angle_to_matrix(given_vector)
    expected = reference.axis_angle_to_matrix(vector)
    np.testing.assert_allclose(matrix, expected, atol=1e-12)
    quaternion = geometry.matrix_to_quaternion(matrix).numpy()
    wanted = reference.matrix_to_quaternion(expected)
    assert quaternion[0] >= 0
    assert min(np.abs(quaternion - wanted).max(), np.abs(quaternion + wanted).max()) < 1e-9
    again = geometry.matrix_to_axis_angle(matrix).numpy()
    np.testing.assert_allclose(reference.axis_angle_to_matrix(again), expected, atol=1e-9)
    if np.linalg.norm(vector) < math.pi - 1e-6:  # at pi itself two vectors mean the same rotation
        np.testing.assert_allclose(again, vector, atol=1e-7)
    np.testing.assert_allclose(
        geometry.matrix_to_rot6d(matrix), reference.matrix_to_rot6d(expected), atol=1e-12
    )


@given(st.lists(UNIT, min_size=6, max_size=6))
def test_rot6d_need_not_be_orthonormal(values):
    first, second = np.array(values[:3]), np.array(values[3:])
    if np.linalg.norm(np.cross(first, second)) < 1e-2:
        return
    (rot6d,) = numbers(values)
    matrix = geometry.rot6d_to_matrix(rot6d)
    np.testing.assert_allclose(matrix, reference.rot6d_to_matrix(np.array(values)), atol=1e-10)


@given(poses(), poses())
def test_poses_equal_the_numpy_twin(base, pose):
    torch_base, torch_pose = numbers(base, pose)
    np.testing.assert_allclose(geometry.invert_pose(torch_base), reference.invert_pose(base), atol=1e-12)
    relative = geometry.relative_pose(torch_base, torch_pose)
    np.testing.assert_allclose(relative, reference.relative_pose(base, pose), atol=1e-12)
    np.testing.assert_allclose(geometry.compose_poses(torch_base, relative), pose, atol=1e-12)


def test_batches_of_any_shape_equal_single_ones():
    vectors = torch.randn(2, 3, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    batched = geometry.matrix_to_axis_angle(geometry.axis_angle_to_matrix(vectors))
    for index in np.ndindex(2, 3, 4):
        single = geometry.matrix_to_axis_angle(geometry.axis_angle_to_matrix(vectors[index]))
        torch.testing.assert_close(batched[index], single)


def test_float32_stays_float32_and_is_precise_near_zero_and_pi():
    directions = torch.nn.functional.normalize(
        torch.randn(500, 3, generator=torch.Generator().manual_seed(1)), dim=-1
    )
    for angle in (0.0, 1e-6, 1e-4, 1e-3, 1.0, 3.0, math.pi - 1e-3, math.pi - 1e-6):
        matrix = geometry.axis_angle_to_matrix(directions * angle)
        again = geometry.matrix_to_axis_angle(matrix)
        assert again.dtype == torch.float32
        torch.testing.assert_close(geometry.axis_angle_to_matrix(again), matrix, atol=2e-6, rtol=0)


GRADIENT_POINTS = [
    [0.0, 0.0, 0.0],
    [1e-5, -2e-5, 1e-5],
    [0.3, -0.2, 0.9],
    [0.0, 2.0, 0.0],
    [1.8, -1.8, 1.8],  # 3.118 rad
    [0.0, 0.0, math.pi - 1e-3],
]


@pytest.mark.parametrize("point", GRADIENT_POINTS)
def test_gradients_equal_finite_differences(point):
    vector = torch.tensor(point, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(geometry.axis_angle_to_matrix, vector, atol=1e-6)
    rot6d = geometry.matrix_to_rot6d(geometry.axis_angle_to_matrix(vector)).detach().requires_grad_()
    assert torch.autograd.gradcheck(geometry.rot6d_to_matrix, rot6d, atol=1e-6)
    base = geometry.pose_matrix(vector.detach(), geometry.axis_angle_to_matrix(vector.detach()))
    assert torch.autograd.gradcheck(geometry.invert_pose, base.requires_grad_(), atol=1e-6)


@pytest.mark.parametrize("point", GRADIENT_POINTS)
def test_the_gradient_of_the_round_trip_is_the_identity(point):
    vector = torch.tensor(point, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(
        lambda v: geometry.matrix_to_axis_angle(geometry.axis_angle_to_matrix(v)), vector
    )
    torch.testing.assert_close(jacobian, torch.eye(3, dtype=torch.float64), atol=1e-6, rtol=0)


@given(axis_angles())
def test_gradients_are_finite_everywhere(vector):
    matrix = torch.from_numpy(reference.axis_angle_to_matrix(vector)).float().requires_grad_()
    geometry.matrix_to_axis_angle(matrix).sum().backward()
    assert torch.isfinite(matrix.grad).all()
    given_vector = torch.from_numpy(vector).float().requires_grad_()
    geometry.axis_angle_to_matrix(given_vector).sum().backward()
    assert torch.isfinite(given_vector.grad).all()


def test_autocast_does_not_touch_the_precision():
    generator = torch.Generator().manual_seed(2)
    vectors, positions = torch.randn(2, 8, 3, generator=generator), torch.randn(2, 8, 3, generator=generator)

    def compute() -> torch.Tensor:
        first, second = geometry.pose_matrix(positions, geometry.axis_angle_to_matrix(vectors))
        relative = geometry.relative_pose(first, second)
        turned = geometry.rot6d_to_matrix(geometry.matrix_to_rot6d(relative[..., :3, :3]))
        return torch.cat(
            [geometry.compose_poses(first, relative)[..., :3, 3], geometry.matrix_to_axis_angle(turned)]
        )

    with torch.autocast("cpu", torch.bfloat16):
        cast = compute()
    assert torch.equal(cast, compute())
