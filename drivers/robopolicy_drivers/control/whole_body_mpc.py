"""Model-predictive control of a flying arm: rotors and joints together follow poses of the tool.

Over the next N steps it minimises the tool's distance from a reference, plus small costs of motion and
effort, subject to the rotors' thrust limits and the speed and position limits of the joints' targets. The
problem is written in the inputs alone (single shooting), so that all constraints are linear, and solved by
Gauss-Newton steps, each a quadratic program.

What the model (``FlyingArm``) leaves out: the rotors' lag, what the arm's motion does to the base, contact.
Tilting costs, and has no limit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_datasets.geometry import Array
from robopolicy_drivers.control.flying_arm import FlyingArm, FlyingArmState, Prediction, Start
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.control.quadratic_program import Bounds, solve_quadratic_program
from robopolicy_drivers.control.rotation_group import cross_matrix
from robopolicy_drivers.control.tracking import (
    gradient_of_rot6d,
    rotation_error,
    rotation_error_gradient,
    rotation_error_jacobian,
    split_reference,
)

SHORTEST = 1.0 / 64.0  # Gauss-Newton step that is tried
CONVERGED = 1e-7  # largest change of an input, in shares of its limit
MOST_ITERATIONS = 60  # until then
ROUNDING = 1e-14  # of a cost
IN_TIME, EXACT = 1e-6, 1e-12  # tolerances of the quadratic programs


@dataclass(frozen=True)
class MpcWeights:
    """Weights of the squares in the cost, which is an integral over time.

    Those of the tool, the speeds, the tilt and the posture are of the size of UMI-on-Air's (arXiv 2510.02614,
    released code); the others are chosen.

    Attributes:
        position: of the tool's error [1/m^2].
        rotation: of the tool's ``rotation_error``.
        velocity: of the base [s^2/m^2].
        angular_velocity: of the base [s^2/rad^2].
        tilt: of the sine of the base's tilt.
        posture: of the joints' distance from home [1/rad^2].
        thrust: of each rotor's difference from hovering, in shares of its limit.
        joint_speed: of the joint targets' speeds, in shares of their limits.
        terminal: factor of all but the last two at the last step.
    """

    position: float = 48.0
    rotation: float = 32.0
    velocity: float = 1.0
    angular_velocity: float = 1.0
    tilt: float = 1.0
    posture: float = 0.02
    thrust: float = 1.0
    joint_speed: float = 0.02
    terminal: float = 10.0


@dataclass(frozen=True)
class MpcSolution:
    """What to do, and what it leads to.

    Attributes:
        thrusts: to command now ``[B, R]`` [N].
        joint_targets: to command now ``[B, J]`` [rad].
        prediction: of the N steps.
        cost: of the prediction ``[B]``.
        converged: whether another Gauss-Newton step would change nothing ``[B]``.
        inputs: of all steps, in shares of their limits ``[B, n]``: the next call's warm start.
    """

    thrusts: Array
    joint_targets: Array
    prediction: Prediction
    cost: Array
    converged: NDArray[np.bool_]
    inputs: Array


@dataclass(frozen=True)
class _Problem:
    """What one call is about."""

    state: FlyingArmState
    start: Start
    hovering: Array
    positions: Array
    rotations: Array
    bounds: Bounds


@dataclass(frozen=True)
class _Iterate:
    """Inputs, where they lead to, and the roots of all terms of what that costs."""

    inputs: Array
    prediction: Prediction
    of_states: Array
    of_inputs: Array
    cost: Array


class WholeBodyMpc:
    """See the module text. It keeps no state: the warm start is passed in.

    Args:
        kinematics: of a robot with a flying base and a tool.
        steps: N, of the reference and of the prediction.
        step_s: time between two of them [s].
        period_s: how long a command is held until the next one [s].
        iterations: Gauss-Newton steps of ``solve``.
        weights: of the cost.

    Raises:
        ConfigError: the robot's base stands, or a number is out of range.
    """

    def __init__(
        self,
        kinematics: Kinematics,
        *,
        steps: int = 8,
        step_s: float = 0.08,
        period_s: float = 0.02,
        iterations: int = 1,
        weights: MpcWeights | None = None,
    ) -> None:
        if not (steps >= 1 and 0 < period_s <= step_s and iterations >= 1):
            raise ConfigError(
                f"WholeBodyMpc got steps={steps}, step_s={step_s}, period_s={period_s}, "
                f"iterations={iterations}; give at least 1 step and 1 iteration, and a period above 0 "
                "that is at most a step."
            )
        self.period_s, self.iterations = period_s, iterations
        self._arm = FlyingArm(kinematics, steps, step_s)
        self._embodiment = kinematics.embodiment
        weights = weights or MpcWeights()
        sizes = (3, 3, 3, 3, 2, self._arm.joints)
        motion = (weights.position, weights.rotation, weights.velocity, weights.angular_velocity)
        of_states = np.repeat((*motion, weights.tilt, weights.posture), sizes) * step_s
        factors = np.where(np.arange(steps) == steps - 1, weights.terminal, 1.0)
        self._state_weights = factors[:, None] * of_states
        counts = (self._arm.split, steps * self._arm.joints)
        self._input_weights = np.repeat((weights.thrust, weights.joint_speed), counts) * step_s

    def solve(self, reference: Array, state: FlyingArmState, warm_start: Array | None = None) -> MpcSolution:
        """Improves the warm start by a fixed number of Gauss-Newton steps, as a control loop needs it.

        Args:
            reference: poses of the tool in the world at the N steps to come ``[B, N, 9]``: position [m] and
                rot6d.
            state: of the robot.
            warm_start: ``inputs`` of the last solution; without one, hovering.

        Raises:
            SpecError: a shape does not fit.
        """
        problem = self._problem(reference, state)
        at = self._at(problem, self._first(problem, warm_start))
        for _ in range(self.iterations):
            at = self._improved(problem, at, IN_TIME)
        return self._solution(problem, at, np.zeros(len(at.inputs), dtype=bool))

    def converge(
        self, reference: Array, state: FlyingArmState, warm_start: Array | None = None
    ) -> MpcSolution:
        """Returns a minimum: ``solve`` with as many steps as it takes, and the same arguments."""
        whole = self._problem(reference, state)
        inputs = self._first(whole, warm_start)
        reference, state = np.asarray(reference), whole.state
        open_rows = np.arange(len(inputs))
        for _ in range(MOST_ITERATIONS):
            problem = self._problem(reference[open_rows], state.rows(open_rows))
            before = inputs[open_rows]
            inputs[open_rows] = self._improved(problem, self._at(problem, before), EXACT).inputs
            open_rows = open_rows[np.abs(inputs[open_rows] - before).max(axis=1) > CONVERGED]
            if not len(open_rows):
                break
        converged = np.isin(np.arange(len(inputs)), open_rows, invert=True)
        return self._solution(whole, self._at(whole, inputs), converged)

    def cost_and_grad(
        self, reference: Array, state: FlyingArmState, warm_start: Array | None = None
    ) -> tuple[Array, Array]:
        """Returns the least cost of following a reference, and its gradient.

        By the envelope theorem the gradient of the least cost is that of the cost with the inputs held at the
        minimum, as the reference enters no constraint.

        Args:
            reference: see ``solve``.
            state: of the robot.
            warm_start: see ``solve``.

        Returns:
            Cost ``[B]`` and its gradient ``[B, N, 9]``.
        """
        solution = self.converge(reference, state, warm_start)
        positions, rotations = split_reference(reference)
        tools = solution.prediction.tools
        of_positions = -2.0 * self._state_weights[:, :3] * (tools[..., :3, 3] - positions)
        error = rotation_error(rotations, tools[..., :3, :3])
        of_rotations = self._state_weights[:, 3, None, None] * rotation_error_gradient(
            error, tools[..., :3, :3]
        )
        rot6d = np.asarray(reference, dtype=np.float64)[..., 3:]
        return solution.cost, np.concatenate([of_positions, gradient_of_rot6d(rot6d, of_rotations)], axis=-1)

    def _problem(self, reference: Array, state: FlyingArmState) -> _Problem:
        positions, rotations = split_reference(reference, self._arm.steps)
        state = state.checked(len(positions), self._arm.joints)
        lower, upper = self._embodiment.position_limits.T
        state = replace(state, joint_targets=np.clip(state.joint_targets, lower, upper))
        rooms = [np.tile(limit - state.joint_targets, self._arm.steps) for limit in (lower, upper)]
        bounds = Bounds(self._arm.lowest, np.ones(len(self._arm.lowest)), self._arm.target_matrix, *rooms)
        start = self._arm.start(state)
        return _Problem(state, start, self._arm.hovering(start), positions, rotations, bounds)

    def _first(self, problem: _Problem, warm_start: Array | None) -> Array:
        """The inputs to begin with, within the bounds, which the joints' present targets have moved."""
        batch, size = problem.hovering.shape
        if warm_start is None:
            return problem.hovering.copy()
        if np.shape(warm_start) != (batch, size):
            raise SpecError(
                f"The warm start has the shape {list(np.shape(warm_start))}; {[batch, size]} is needed: give "
                "'inputs' of a solution of as many robots, or None."
            )
        bounds = problem.bounds
        inputs = np.clip(warm_start, self._arm.lowest, 1.0)
        moved = np.clip(inputs @ bounds.rows.T, bounds.rows_lower, bounds.rows_upper)
        moves = np.diff(moved.reshape(batch, self._arm.steps, -1), axis=1, prepend=0.0)
        speeds = moves / (self._arm.step_s * self._arm.speed_limits)
        inputs[:, self._arm.split :] = speeds.reshape(batch, -1)
        return inputs

    def _solution(self, problem: _Problem, at: _Iterate, converged: NDArray[np.bool_]) -> MpcSolution:
        speeds = self._arm.speed_limits * at.inputs[:, self._arm.split :][:, : self._arm.joints]
        targets = problem.state.joint_targets + self.period_s * speeds
        return MpcSolution(
            thrusts=at.prediction.thrusts[:, 0],
            joint_targets=np.clip(targets, *self._embodiment.position_limits.T),
            prediction=at.prediction,
            cost=at.cost,
            converged=converged,
            inputs=at.inputs,
        )

    def _improved(self, problem: _Problem, at: _Iterate, tolerance: float) -> _Iterate:
        """One Gauss-Newton step, as long as it lowers the cost."""
        jacobian = self._jacobian(problem, at.prediction)
        transposed = np.swapaxes(jacobian, -1, -2)
        # Step by step: one large product would go to threads, which on a busy computer wait for each other.
        hessian = (transposed @ jacobian).sum(axis=1)
        diagonal = np.arange(len(self._input_weights))
        hessian[:, diagonal, diagonal] += self._input_weights
        slope = (transposed @ at.of_states[..., None])[..., 0].sum(axis=1)
        slope += np.sqrt(self._input_weights) * at.of_inputs
        linear = slope - (hessian @ at.inputs[..., None])[..., 0]
        best = solve_quadratic_program(hessian, linear, problem.bounds, at.inputs, tolerance=tolerance)
        return self._search(problem, at, best - at.inputs, slope)

    def _search(self, problem: _Problem, at: _Iterate, move: Array, slope: Array) -> _Iterate:
        """Halves steps until the cost falls; one that never does is not taken."""
        promised = 1e-4 * 2.0 * np.sum(slope * move, axis=1)  # Armijo's rule
        length = np.ones(len(move))
        while True:
            moved = self._at(problem, at.inputs + length[:, None] * move)
            rising = moved.cost > at.cost + length * promised + ROUNDING * (1.0 + at.cost)
            rising &= length > 0
            if not rising.any():
                return moved
            halved = np.where(length > SHORTEST, 0.5 * length, 0.0)
            length = np.where(rising, halved, length)

    def _at(self, problem: _Problem, inputs: Array) -> _Iterate:
        prediction = self._arm.predict(problem.start, inputs)
        tools, base = prediction.tools, prediction.after
        states = [
            tools[..., :3, 3] - problem.positions,
            rotation_error(problem.rotations, tools[..., :3, :3]),
            base.velocity,
            base.angular_velocity,
            base.rotation[..., 2, :2],
            prediction.joints - self._embodiment.home_positions,
        ]
        of_states = np.sqrt(self._state_weights) * np.concatenate(states, axis=-1)
        of_inputs = np.sqrt(self._input_weights) * (inputs - problem.hovering)
        cost = np.sum(of_states**2, axis=(1, 2)) + np.sum(of_inputs**2, axis=1)
        return _Iterate(inputs, prediction, of_states, of_inputs, cost)

    def _jacobian(self, problem: _Problem, prediction: Prediction) -> Array:
        """Returns the derivatives of the states' residuals by the inputs ``[B, N, 14 + J, n]``."""
        arm = self._arm
        of_base = arm.base_derivatives(problem.start, prediction)
        position, turn = arm.tool_derivatives(prediction, of_base)
        error_by_turn = rotation_error_jacobian(problem.rotations, prediction.tools[..., :3, :3])
        up = prediction.after.rotation[..., 2, :]
        found = np.zeros((*of_base.shape[:2], 14 + arm.joints, len(arm.lowest)))
        found[..., :3, :] = position
        found[..., 3:6, :] = error_by_turn @ turn
        found[..., 6:9, : arm.split] = of_base[..., 3:6, :]
        found[..., 9:12, : arm.split] = of_base[..., 9:, :]
        found[..., 12:14, : arm.split] = cross_matrix(up)[..., :2, :] @ of_base[..., 6:9, :]
        found[..., 14:, arm.split :] = arm.joint_derivatives()
        found *= np.sqrt(self._state_weights)[..., None]
        return found
