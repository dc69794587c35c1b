"""Geometric control and regulators fly a quadrotor with lagging rotors; impedance holds a simulated joint."""

import numpy as np
import pytest
from scenes import Flight

from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_datasets.geometry import axis_angle_to_matrix
from robopolicy_drivers.control.attitude import GeometricController
from robopolicy_drivers.control.flying_body import BaseState, FlyingBody
from robopolicy_drivers.control.impedance import JointImpedance
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.control.lqr import SaturatedLqr, TrackingLqr
from robopolicy_drivers.embodiments import load_embodiment

QUADROTOR = Kinematics(load_embodiment("quadrotor"))
PERIOD_S = 0.01


def base_of(flight):
    return BaseState(flight.position, flight.rotation, flight.velocity, flight.spin)


def fly(flight, seconds, command):
    """Flies and returns the largest speed and the largest tilt on the way."""
    speeds, tilts = [], []
    for _ in range(round(seconds / PERIOD_S)):
        flight.fly(command(base_of(flight)), PERIOD_S)
        speeds.append(np.linalg.norm(flight.velocity))
        tilts.append(np.arccos(min(flight.rotation[2, 2], 1.0)))
    return max(speeds), max(tilts)


def test_a_quadrotor_that_hovers_stays_and_its_thrusts_carry_it():
    controller, flight = GeometricController(QUADROTOR.embodiment), Flight(QUADROTOR, (1, 2, 3))
    command = controller.command(np.array([1.0, 2.0, 3.0]), 0.0, base_of(flight))
    np.testing.assert_allclose(command.thrusts, 9.81 * QUADROTOR.embodiment.mass / 4, rtol=1e-9)
    np.testing.assert_allclose(command.missing, 0, atol=1e-9)
    fly(flight, 1.0, lambda state: controller.command(np.array([1.0, 2.0, 3.0]), 0.0, state).thrusts)
    np.testing.assert_allclose(flight.position, [1, 2, 3], atol=1e-6)


@pytest.mark.parametrize("heading", [0.0, 2.5])
def test_it_reaches_a_set_point_and_its_heading_within_its_limits(heading):
    base = QUADROTOR.embodiment.base
    controller, flight = GeometricController(QUADROTOR.embodiment), Flight(QUADROTOR)
    goal = np.array([2.0, -2.5, 1.0])
    speed, tilt = fly(flight, 6.0, lambda state: controller.command(goal, heading, state).thrusts)
    np.testing.assert_allclose(flight.position, goal, atol=0.01)
    assert np.arctan2(flight.rotation[1, 0], flight.rotation[0, 0]) == pytest.approx(heading, abs=0.02)
    assert speed < base.velocity_limit
    assert 0.1 < tilt < base.tilt_limit + 0.25


def test_it_recovers_from_lying_on_its_side():
    controller, flight = GeometricController(QUADROTOR.embodiment), Flight(QUADROTOR)
    flight.rotation = axis_angle_to_matrix(np.array([1.8, 0.0, 0.0]))
    fly(flight, 5.0, lambda state: controller.command(np.zeros(3), 0.0, state).thrusts)
    np.testing.assert_allclose(flight.position, 0, atol=0.02)


def test_a_moving_target_is_followed_with_its_velocity_and_acceleration():
    controller, flight = GeometricController(QUADROTOR.embodiment), Flight(QUADROTOR, (1, 0, 0))
    flight.velocity = np.array([0.0, 1.0, 0.0])
    time = 0.0

    def command(state):
        nonlocal time
        time += PERIOD_S
        ahead, across = np.array([np.cos(time), np.sin(time), 0]), np.array([-np.sin(time), np.cos(time), 0])
        return controller.command(ahead, 0.0, state, velocity=across, acceleration=-ahead).thrusts

    fly(flight, 3.0, command)
    np.testing.assert_allclose(flight.position, [np.cos(time), np.sin(time), 0], atol=0.06)


def test_batches_are_commanded_as_their_rows_are():
    controller, random = GeometricController(QUADROTOR.embodiment), np.random.default_rng(0)
    rotation = axis_angle_to_matrix(random.normal(size=(2, 3, 3)))
    state = BaseState(random.normal(size=(2, 3, 3)), rotation, *random.normal(size=(2, 2, 3, 3)))
    goal, heading = random.normal(size=(2, 3, 3)), random.normal(size=(2, 3))
    together = controller.command(goal, heading, state).thrusts
    for at in np.ndindex(2, 3):
        one = BaseState(*(value[at] for value in vars(state).values()))
        alone = controller.command(goal[at], heading[at], one).thrusts
        np.testing.assert_allclose(together[at], alone, atol=1e-6)


def hover_regulator():
    """A saturated regulator of the quadrotor's twelve states about hovering at the origin."""
    body, rest = FlyingBody(QUADROTOR, np.zeros(0)), BaseState.at_rest(np.zeros(3))
    limits = QUADROTOR.embodiment.base.thrust_limits
    system = body.derivatives(rest, body.hover_thrusts, PERIOD_S)
    weights = np.diag(np.repeat([10.0, 2.0, 10.0, 0.5], 3)), 0.5 * np.eye(4)
    return rest, SaturatedLqr.design(system, weights, input=body.hover_thrusts, lower=0.0, upper=limits)


def test_a_saturated_regulator_of_twelve_states_flies_the_quadrotor_home():
    rest, regulator = hover_regulator()
    flight = Flight(QUADROTOR, (2.0, -1.5, 1.0))
    flight.rotation = axis_angle_to_matrix(np.array([0.5, -0.4, 0.5]))
    saturated = []

    def command(state):
        thrusts = regulator.command(state.change_from(rest))
        saturated.append(np.any((thrusts <= 0) | (thrusts >= regulator.upper)))
        return thrusts

    fly(flight, 6.0, command)
    assert any(saturated)
    np.testing.assert_allclose(flight.position, 0, atol=0.01)


def system(random, size=5, count=2):
    a = np.eye(size) + 0.2 * random.normal(size=(size, size))
    root = random.normal(size=(size, size))
    return (a, random.normal(size=(size, count))), (root @ root.T + np.eye(size), 0.3 * np.eye(count))


def test_the_regulators_value_is_the_cost_to_go():
    plant, weights = system(np.random.default_rng(1))
    regulator = SaturatedLqr.design(plant, weights)
    state = first = np.random.default_rng(2).normal(size=5)
    cost = 0.0
    for _ in range(400):
        action = regulator.command(state)
        cost += state @ weights[0] @ state + action @ weights[1] @ action
        state = plant[0] @ state + plant[1] @ action
    assert cost == pytest.approx(first @ regulator.value @ first, rel=1e-9)


def test_over_many_steps_the_gain_in_time_is_the_regulators():
    plant, weights = system(np.random.default_rng(1))
    gains = TrackingLqr(plant, weights, steps=60).gains
    np.testing.assert_allclose(gains[0], SaturatedLqr.design(plant, weights).gain, atol=1e-8)


@pytest.mark.parametrize("varying", [False, True])
def test_tracking_is_optimal_and_its_gradient_right(varying):
    random = np.random.default_rng(3)
    plant, weights = system(random)
    if varying:
        plant = tuple(part + 0.1 * random.normal(size=(7, *part.shape)) for part in plant)
    tracker = TrackingLqr(plant, weights, steps=7, terminal=5 * weights[0])
    reference, state = random.normal(size=(3, 7, 5)), random.normal(size=(3, 5))
    cost, gradient = tracker.cost_and_grad(reference, state)
    best, _ = tracker.predict(reference, state)

    def cost_of(inputs):
        at, total = state, 0.0
        for step in range(7):
            a, b = (part[step] if varying else part for part in plant)
            at = at @ a.T + inputs[:, step] @ b.T
            apart, factor = at - reference[:, step], 5.0 if step == 6 else 1.0
            total = total + factor * np.einsum("bi,ij,bj->b", apart, weights[0], apart)
            total = total + np.einsum("bi,ij,bj->b", inputs[:, step], weights[1], inputs[:, step])
        return total

    np.testing.assert_allclose(cost_of(best), cost, rtol=1e-12)
    for _ in range(20):
        assert np.all(cost_of(best + 0.01 * random.normal(size=best.shape)) > cost)
    step = 1e-4 * random.normal(size=reference.shape)
    ahead, behind = (tracker.cost_and_grad(reference + sign * step, state)[0] for sign in (1, -1))
    np.testing.assert_allclose(ahead - behind, 2 * np.sum(gradient * step, axis=(1, 2)), rtol=1e-6)
    np.testing.assert_array_equal(tracker.command(reference, state), best[:, 0])


def test_impedance_brings_a_joint_to_its_target_through_the_lag_and_keeps_the_effort_limit():
    embodiment = load_embodiment("ur5e")
    impedance = JointImpedance(embodiment, period_s=0.002, time_constant=0.01)
    targets = embodiment.home_positions + 0.5
    positions, velocities, torque = embodiment.home_positions.copy(), np.zeros(6), np.zeros(6)
    inertia = np.array([joint.damping**2 / joint.stiffness for joint in embodiment.joints])
    largest = 0.0
    for _ in range(2000):
        command = impedance.command(targets, positions, velocities)
        assert np.all(np.abs(command) <= embodiment.effort_limits)
        largest = max(largest, np.max(np.abs(command) / embodiment.effort_limits))
        torque = impedance.lag(command, torque)
        velocities = velocities + 0.002 * torque / inertia
        positions = positions + 0.002 * velocities
    assert largest == 1.0
    np.testing.assert_allclose(positions, targets, atol=1e-3)


def test_the_lag_is_one_of_first_order():
    impedance = JointImpedance(load_embodiment("ur5e"), period_s=0.002, time_constant=0.02)
    torque, command = np.zeros((3, 6)), np.full((3, 6), 2.0)
    for _ in range(10):
        torque = impedance.lag(command, torque)
    np.testing.assert_allclose(torque, 2.0 * (1 - np.exp(-1.0)))


def test_what_cannot_be_controlled_is_refused():
    with pytest.raises(ConfigError, match="'ur5e' has no flying base"):
        GeometricController(load_embodiment("ur5e"))
    with pytest.raises(ConfigError, match="carries an arm"):
        GeometricController(load_embodiment("aerial_manipulator"))
    with pytest.raises(ConfigError, match="damping=0"):
        GeometricController(QUADROTOR.embodiment, damping=0)
    with pytest.raises(ConfigError, match="no regulator"):
        SaturatedLqr.design((2 * np.eye(2), np.zeros((2, 1))), (np.eye(2), np.eye(1)))
    with pytest.raises(ConfigError, match="steps=0"):
        TrackingLqr((np.eye(2), np.eye(2)), (np.eye(2), np.eye(2)), steps=0)
    tracker = TrackingLqr((np.eye(2), np.eye(2)), (np.eye(2), np.eye(2)), steps=4)
    with pytest.raises(SpecError, match=r"\[1, 3, 2\].*\[B, 4, 2\]"):
        tracker.predict(np.zeros((1, 3, 2)), np.zeros((1, 2)))
    with pytest.raises(ConfigError, match="period_s=0"):
        JointImpedance(load_embodiment("ur5e"), period_s=0)
