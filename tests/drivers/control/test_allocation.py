"""Allocation and the quadratic programs that it and the predictive controller solve."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from scipy.optimize import lsq_linear, minimize

from robopolicy_datasets.errors import SpecError
from robopolicy_drivers.control.allocation import TORQUE_FIRST, Allocation
from robopolicy_drivers.control.quadratic_program import Bounds, solve_quadratic_program
from robopolicy_drivers.embodiments import load_embodiment

BASES = {name: load_embodiment(name).base for name in ("aerial_manipulator", "quadrotor")}
NAMES = st.sampled_from(sorted(BASES))
SEEDS = st.integers(0, 2**32 - 1)


@given(NAMES, SEEDS)
def test_a_wrench_that_the_rotors_can_give_is_given(name, seed):
    base = BASES[name]
    thrusts = np.random.default_rng(seed).uniform(0, base.thrust_limits, (3, 2, len(base.rotors)))
    wrench = thrusts @ base.wrench_matrix.T
    found = Allocation(base).allocate(wrench)
    assert found.thrusts.shape == thrusts.shape
    assert found.missing.shape == wrench.shape
    np.testing.assert_allclose(found.missing, 0, atol=1e-7)


@given(NAMES, SEEDS)
def test_any_wrench_is_met_as_well_as_the_limits_allow(name, seed):
    base = BASES[name]
    random = np.random.default_rng(seed)
    wrench = random.normal(0, [30, 30, 60, 5, 5, 2], (4, 6))
    found = Allocation(base).allocate(wrench)
    assert np.all((found.thrusts >= 0) & (found.thrusts <= base.thrust_limits))
    np.testing.assert_allclose(found.missing, wrench - found.thrusts @ base.wrench_matrix.T, atol=1e-12)
    weights = np.array(TORQUE_FIRST)
    for row in range(4):
        best = lsq_linear(
            weights[:, None] * base.wrench_matrix, weights * wrench[row], (0, base.thrust_limits), tol=1e-12
        )
        cost = 0.5 * np.sum((weights * found.missing[row]) ** 2)
        assert cost <= best.cost * (1 + 1e-5) + 1e-4


def test_a_quadrotor_that_lacks_thrust_gives_up_the_force_before_the_torque():
    found = Allocation(BASES["quadrotor"]).allocate([0, 0, 60, 0.5, 0, 0])
    assert found.missing[2] > 25
    assert abs(found.missing[3]) < 0.05


def test_a_wrench_has_six_numbers():
    with pytest.raises(SpecError, match=r"\[2, 5\]; \[\.\.\., 6\]"):
        Allocation(BASES["quadrotor"]).allocate(np.zeros((2, 5)))


@pytest.mark.parametrize("seed", range(5))
def test_programs_with_bounded_sums_end_where_scipys_do(seed):
    random = np.random.default_rng(seed)
    root = random.normal(size=(2, 6, 6))
    hessian = root @ root.swapaxes(-1, -2) + 0.1 * np.eye(6)
    gradient = 5 * random.normal(size=(2, 6))
    rows = np.tril(np.ones((6, 6)))[[2, 5]]
    bounds = Bounds(-np.ones(6), np.ones(6), rows, np.array([-0.5, -0.2]), np.array([0.5, 0.2]))
    found = solve_quadratic_program(hessian, gradient, bounds, np.zeros((2, 6)), tolerance=1e-10)
    assert np.all(bounds.room(found) > -1e-8)
    for row in range(2):
        best = minimize(
            lambda z, row=row: 0.5 * z @ hessian[row] @ z + gradient[row] @ z,
            np.zeros(6),
            jac=lambda z, row=row: hessian[row] @ z + gradient[row],
            bounds=[(-1, 1)] * 6,
            constraints=[
                {"type": "ineq", "fun": lambda z: rows @ z + [0.5, 0.2]},
                {"type": "ineq", "fun": lambda z: [0.5, 0.2] - rows @ z},
            ],
            options={"ftol": 1e-14},
        )
        np.testing.assert_allclose(found[row], best.x, atol=1e-5)
