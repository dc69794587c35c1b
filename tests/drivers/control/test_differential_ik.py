"""Acceleration limits of the inverse kinematics, and the gradient of following a reference with it."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from robopolicy_datasets.errors import SpecError
from robopolicy_datasets.geometry import axis_angle_to_matrix, matrix_to_rot6d
from robopolicy_drivers.control.differential_ik import DifferentialIK
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.control.rotation_group import exponential, inverse_right_jacobian, right_jacobian
from robopolicy_drivers.embodiments import load_embodiment

NAMES = ["ur5e", "fr3", "so101", "aerial_manipulator"]
VECTORS = st.lists(st.floats(-2.0, 2.0), min_size=3, max_size=3).map(np.array)
PERIOD_S = 0.02


def references(kinematics, random, batch, steps, way):
    """Straight ways from home to somewhere, with shaken rotations and rot6d that are not orthonormal."""
    embodiment = kinematics.embodiment
    lower, upper = embodiment.position_limits.T
    spread = random.normal(0, 0.3, (batch, kinematics.num_joints))
    start = np.clip(embodiment.home_positions + spread, lower, upper)
    pose = kinematics.forward(start)
    share = np.arange(1, steps + 1)[:, None] / steps
    positions = pose[:, None, :3, 3] + share * random.normal(0, way, (batch, 1, 3))
    turns = axis_angle_to_matrix(share * random.normal(0, way, (batch, 1, 3)))
    rot6d = matrix_to_rot6d(turns @ pose[:, None, :3, :3])
    return np.concatenate([positions, rot6d + random.normal(0, 0.02, rot6d.shape)], axis=-1), start


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", [0.02, 0.5])
@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.soak)])
def test_the_gradient_is_that_of_the_roll_out(name, way, count):
    kinematics = Kinematics(load_embodiment(name))
    ik = DifferentialIK(kinematics, period_s=0.05, iterations=2)
    random = np.random.default_rng(0)
    reference, start = references(kinematics, random, count, 8, way)
    cost, gradient = ik.cost_and_grad(reference, start)
    step = 1e-6 * random.normal(size=reference.shape)
    ahead, behind = (ik.cost_and_grad(reference + sign * step, start)[0] for sign in (1, -1))
    analytic = 2 * np.sum(gradient * step, axis=(1, 2))
    right = np.abs(ahead - behind - analytic) <= 1e-3 * np.abs(analytic) + 1e-13 * cost + 1e-16
    print(f"{name}, ways of {way} m: {right.sum()} of {count} gradients within 1e-3")
    assert right.mean() >= 0.95  # at a limit that begins or ends to bind there is no derivative


def test_a_batch_costs_what_its_rows_cost():
    kinematics = Kinematics(load_embodiment("fr3"))
    ik = DifferentialIK(kinematics, period_s=0.05)
    reference, start = references(kinematics, np.random.default_rng(1), 5, 6, 0.2)
    cost, gradient = ik.cost_and_grad(reference, start)
    for row in range(5):
        its_cost, its_gradient = ik.cost_and_grad(reference[row : row + 1], start[row : row + 1])
        np.testing.assert_allclose(cost[row], its_cost[0], rtol=1e-12)
        np.testing.assert_allclose(gradient[row], its_gradient[0], atol=1e-11)


def test_the_cost_is_that_of_calling_it_step_by_step():
    kinematics = Kinematics(load_embodiment("ur5e"))
    ik = DifferentialIK(kinematics, period_s=0.05, rotation_weight=0.0)
    reference, start = references(kinematics, np.random.default_rng(2), 3, 6, 0.5)
    cost = np.zeros(3)
    positions = start
    for step in range(6):
        target = np.tile(np.eye(4), (3, 1, 1))
        target[:, :3, 3] = reference[:, step, :3]
        rows = reference[:, step, 3:].reshape(3, 2, 3)
        first = rows[:, 0] / np.linalg.norm(rows[:, 0], axis=-1, keepdims=True)
        second = rows[:, 1] - np.sum(first * rows[:, 1], axis=-1, keepdims=True) * first
        second /= np.linalg.norm(second, axis=-1, keepdims=True)
        target[:, :3, :3] = np.stack([first, second, np.cross(first, second)], axis=1)
        positions = ik.solve(target, positions)
        cost += np.sum((kinematics.forward(positions)[:, :3, 3] - reference[:, step, :3]) ** 2, axis=-1)
    np.testing.assert_allclose(ik.cost_and_grad(reference, start)[0], cost, rtol=1e-3, atol=1e-8)


def test_a_slower_arm_follows_worse():
    embodiment = load_embodiment("ur5e")
    kinematics = Kinematics(embodiment)
    reference, start = references(kinematics, np.random.default_rng(3), 20, 8, 0.5)
    slow, fast = (DifferentialIK(kinematics, period_s=period) for period in (0.02, 0.2))
    assert np.median(slow.cost_and_grad(reference, start)[0] / fast.cost_and_grad(reference, start)[0]) > 2


@given(st.sampled_from(NAMES), st.integers(0, 2**32 - 1))
def test_speeds_accelerations_and_limits_hold_for_any_targets(name, seed):
    embodiment = load_embodiment(name)
    kinematics = Kinematics(embodiment)
    ik = DifferentialIK(kinematics, period_s=PERIOD_S)
    random = np.random.default_rng(seed)
    lower, upper = embodiment.position_limits.T
    positions = random.uniform(lower, upper, (2, kinematics.num_joints))
    step = np.zeros_like(positions)
    for tick in range(20):
        if tick % 10 == 0:
            target = kinematics.forward(random.uniform(lower, upper, positions.shape))
        after = ik.solve(target, positions, step)
        change = (after - positions) - step
        assert np.all((after >= lower - 1e-12) & (after <= upper + 1e-12))
        assert np.all(np.abs(after - positions) <= embodiment.velocity_limits * PERIOD_S + 1e-12)
        assert np.all(np.abs(change) <= embodiment.acceleration_limits * PERIOD_S**2 + 1e-12)
        positions, step = after, after - positions


@given(VECTORS, VECTORS)
def test_the_right_jacobian_is_the_derivative_of_the_exponential(turn, change):
    np.testing.assert_allclose(exponential(turn), axis_angle_to_matrix(turn), atol=1e-12)
    moved = exponential(turn + 1e-6 * change)
    np.testing.assert_allclose(
        moved, exponential(turn) @ exponential(right_jacobian(turn) @ (1e-6 * change)), atol=1e-10
    )
    np.testing.assert_allclose(inverse_right_jacobian(turn) @ right_jacobian(turn), np.eye(3), atol=1e-8)


def test_a_reference_of_another_shape_is_refused():
    ik = DifferentialIK(Kinematics(load_embodiment("ur5e")), period_s=0.1)
    with pytest.raises(SpecError, match=r"\[1, 4, 7\]; \[B, H, 9\]"):
        ik.cost_and_grad(np.zeros((1, 4, 7)), np.zeros((1, 6)))
