"""The flying arm's model and its predictive controller: derivatives, minima, limits, flight."""

from dataclasses import replace

import numpy as np
import pytest
from scenes import ARM, Flight, random_scene, standing_reference

from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_datasets.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from robopolicy_drivers.control.flying_body import BaseState, FlyingBody
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.control.whole_body_mpc import WholeBodyMpc
from robopolicy_drivers.embodiments import load_embodiment

MPC = WholeBodyMpc(ARM)
LOWER, UPPER = ARM.embodiment.position_limits.T
SPEED = ARM.embodiment.velocity_limits


def active(inputs):
    """Which limits the inputs are at."""
    return np.stack([inputs < MPC._arm.lowest + 1e-6, inputs > 1 - 1e-6])


def test_the_derivatives_of_a_step_are_those_of_the_step():
    random = np.random.default_rng(0)
    body = FlyingBody(ARM, ARM.embodiment.home_positions)
    rotation = axis_angle_to_matrix(random.normal(size=3))
    at = BaseState(*random.normal(size=(1, 3)), rotation, *random.normal(size=(2, 3)))
    thrusts = random.uniform(0, 20, 6)

    def changed(change):
        turned = rotation @ axis_angle_to_matrix(change[6:9])
        return BaseState(
            at.position + change[:3],
            turned,
            at.velocity + change[3:6],
            at.angular_velocity + change[9:12],
        )

    def difference(one, other):
        turn = matrix_to_axis_angle(other.rotation.T @ one.rotation)
        parts = (one.position - other.position, one.velocity - other.velocity, turn)
        return np.concatenate([*parts, one.angular_velocity - other.angular_velocity])

    def moved(change):
        return body.step(changed(change), thrusts + change[12:], 0.08)

    numbers = [difference(moved(1e-6 * one), moved(-1e-6 * one)) / 2e-6 for one in np.eye(12 + len(thrusts))]
    found = np.concatenate(body.derivatives(at, thrusts, 0.08), axis=-1)
    np.testing.assert_allclose(found, np.stack(numbers, axis=-1), atol=2e-8)


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.soak)])
def test_the_gradient_is_that_of_the_converged_problem(count):
    reference, state = random_scene(count, 7)
    solution = MPC.converge(reference, state)
    assert solution.converged.all()
    assert active(solution.inputs).any(axis=(0, 2)).mean() > 0.9  # limits bind in most of them
    gradient = MPC.cost_and_grad(reference, state, solution.inputs)[1]
    random = np.random.default_rng(3)
    direction = random.normal(size=reference.shape)
    direction /= np.linalg.norm(direction, axis=(1, 2), keepdims=True)
    step = 1e-5 * direction
    ahead, behind = (MPC.converge(reference + sign * step, state, solution.inputs) for sign in (1, -1))
    numeric = (ahead.cost - behind.cost) / 2e-5
    analytic = np.sum(gradient * direction, axis=(1, 2))
    right = np.abs(numeric - analytic) <= 1e-3 * np.abs(numeric)
    changes = (active(ahead.inputs) != active(behind.inputs)).any(axis=(0, 2))
    print(
        f"{right.sum()} of {count} gradients within 1e-3; the active limits changed in "
        f"{np.flatnonzero(changes).tolist()}, not within 1e-3: {np.flatnonzero(~right).tolist()}"
    )
    assert right.mean() >= 0.95


def test_a_batch_is_solved_as_its_rows_are():
    reference, state = random_scene(5, 11)
    warm = MPC.solve(reference, state).inputs
    together = MPC.solve(reference, state, warm)
    cost, gradient = MPC.cost_and_grad(reference, state, warm)
    for row in range(5):
        one = np.array([row])
        alone = MPC.solve(reference[one], state.rows(one), warm[one])
        np.testing.assert_allclose(together.thrusts[one], alone.thrusts, rtol=1e-9)
        np.testing.assert_allclose(together.joint_targets[one], alone.joint_targets, atol=1e-9)
        its_cost, its_gradient = MPC.cost_and_grad(reference[one], state.rows(one), warm[one])
        np.testing.assert_allclose(cost[one], its_cost, rtol=1e-9)
        np.testing.assert_allclose(gradient[one], its_gradient, atol=1e-6)


def test_no_reference_makes_it_leave_the_limits():
    reference, state = random_scene(20, 5, way=2.0)
    solution = MPC.solve(reference, state)
    limits = ARM.embodiment.base.thrust_limits
    assert np.all((solution.prediction.thrusts > -1e-6) & (solution.prediction.thrusts < limits + 1e-6))
    assert np.all((solution.joint_targets >= LOWER) & (solution.joint_targets <= UPPER))
    move = np.abs(solution.joint_targets - state.joint_targets)
    assert np.all(move <= SPEED * MPC.period_s * (1 + 1e-6))
    joints = solution.prediction.joints
    slack = np.abs(state.joints - state.joint_targets)[:, None]  # a joint may lie behind its target
    assert np.all((joints >= LOWER - slack - 1e-6) & (joints <= UPPER + slack + 1e-6))
    assert (np.abs(solution.inputs[:, MPC._arm.split :]) > 1 - 1e-4).any()


def test_a_minimum_costs_no_more_than_one_step_towards_it_and_another_start_finds_it():
    reference, state = random_scene(4, 2)
    best = MPC.converge(reference, state)
    assert np.all(best.cost <= MPC.solve(reference, state).cost + 1e-12)
    shaken = best.inputs + np.random.default_rng(0).normal(0, 0.03, best.inputs.shape)
    np.testing.assert_allclose(MPC.converge(reference, state, shaken).cost, best.cost, rtol=1e-6)


def test_it_hovers_and_comes_back_to_where_it_hovered():
    flight = Flight(ARM)
    goal = flight.tool
    reference = standing_reference(goal, 8)
    flight.position += [0.1, -0.1, 0.05]
    warm, distance = None, []
    for _ in range(90):
        solution = MPC.solve(reference, flight.state, warm)
        warm = solution.inputs
        flight.fly(solution.thrusts[0], MPC.period_s, targets=solution.joint_targets[0])
        distance.append(np.linalg.norm(flight.tool[:3, 3] - goal[:3, 3]))
    assert distance[0] > 0.14
    assert max(distance[60:]) < 0.005
    turn = matrix_to_axis_angle(goal[:3, :3].T @ flight.tool[:3, :3])
    assert np.linalg.norm(turn) < 0.01


def test_it_hovers_through_a_push():
    flight = Flight(ARM)
    reference, warm = standing_reference(flight.tool, 8), None
    goal = flight.tool[:3, 3]
    for _ in range(50):
        solution = MPC.solve(reference, flight.state, warm)
        warm = solution.inputs
        flight.fly(
            solution.thrusts[0], MPC.period_s, targets=solution.joint_targets[0], force=[3.0, -3.0, 2.0]
        )
    assert 0.002 < np.linalg.norm(flight.tool[:3, 3] - goal) < 0.05


def test_what_does_not_fit_is_refused():
    reference, state = random_scene(2, 0)
    with pytest.raises(SpecError, match=r"\[2, 7, 9\]; \[B, 8, 9\]"):
        MPC.solve(reference[:, :7], state)
    with pytest.raises(SpecError, match="'position'"):
        MPC.solve(reference, state.rows(np.array([0])))
    with pytest.raises(SpecError, match="reference has numbers that are not finite"):
        MPC.solve(reference * np.nan, state)
    with pytest.raises(SpecError, match="'joints' has numbers that are not finite"):
        MPC.solve(reference, replace(state, joints=state.joints * np.inf))
    with pytest.raises(SpecError, match="warm start"):
        MPC.solve(reference, state, np.zeros((2, 9)))
    with pytest.raises(ConfigError, match="'ur5e' has no flying base"):
        WholeBodyMpc(Kinematics(load_embodiment("ur5e")))
    with pytest.raises(ConfigError, match="steps=0"):
        WholeBodyMpc(ARM, steps=0)
