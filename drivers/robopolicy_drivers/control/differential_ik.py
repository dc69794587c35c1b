"""Inverse kinematics by damped least squares, from the last joint positions (warm start)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.geometry import Array, pose_matrix
from robopolicy_drivers.control.damped_step import DampedStep
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.control.rotation_group import antisymmetric_part, cross_matrix
from robopolicy_drivers.control.tracking import gradient_of_rot6d, split_reference

CLOSE_ENOUGH = 1e-5  # [m, rad] error at which iterating stops


@dataclass(frozen=True)
class _Tick:
    """What one call of the inverse kinematics did, for its derivative."""

    admitted: NDArray[np.bool_]
    steps: list[tuple[DampedStep, NDArray[np.bool_]]]
    way: Array
    excess: Array


class DifferentialIK:
    """Turns target poses of the tool center point into joint positions near the present ones.

    The result never leaves the joint limits and is never further from the start than the joints' speed
    limits allow in one period; where that is too far, the way there is followed as far as allowed.

    Args:
        kinematics: of the arm.
        period_s: time until the next call [s].
        iterations: most Gauss-Newton steps of a call.
        damping: of the least squares; larger values move less near singular postures.
        rotation_weight: of the rotation in ``cost_and_grad`` [m^2/rad^2].
    """

    def __init__(
        self,
        kinematics: Kinematics,
        *,
        period_s: float,
        iterations: int = 4,
        damping: float = 0.01,
        rotation_weight: float = 0.1,
    ) -> None:
        if not (period_s > 0 and iterations >= 1 and damping > 0):
            raise ConfigError(
                f"DifferentialIK got period_s={period_s}, iterations={iterations}, damping={damping}; "
                "give a period and a damping above 0 and at least 1 iteration."
            )
        self.kinematics = kinematics
        self.iterations = iterations
        embodiment = kinematics.embodiment
        self._lower, self._upper = embodiment.position_limits.T
        self._largest_step = embodiment.velocity_limits * period_s
        self._largest_change = embodiment.acceleration_limits * period_s**2
        self._damping = damping**2 * np.eye(6)
        self._rotation_weight = rotation_weight

    def solve(self, target_pose: Array, positions: Array, previous_step: Array | None = None) -> Array:
        """Moves joint positions towards target poses.

        Args:
            target_pose: of the tool center point, in the base frame ``[B, 4, 4]``.
            positions: start, best the last commanded joint positions ``[B, J]`` [rad].
            previous_step: what the last call moved them by ``[B, J]`` [rad]; with it, the joints'
                acceleration limits hold too, also while they brake before a limit.

        Returns:
            Joint positions ``[B, J]`` [rad].
        """
        start = self._admit(positions)
        solution = start
        for _ in range(self.iterations):
            step = DampedStep.toward(self.kinematics, target_pose, solution, self._damping)
            apart = np.abs(step.error).max(axis=-1, keepdims=True) >= CLOSE_ENOUGH
            if not apart.any():
                break
            solution = self._admit(solution + np.where(apart, step.move, 0.0))
        way = solution - start
        way /= np.maximum(self._excess(way), 1.0)
        return start + (way if previous_step is None else self._smooth(way, start, previous_step))

    def cost_and_grad(self, reference: Array, positions: Array) -> tuple[Array, Array]:
        """Returns how far the arm stays from a reference that it follows at this period, and the gradient.

        The cost is that of the very motion: from ``positions``, one call of ``solve`` a step (with all
        iterations and without acceleration limits), and after each the squared distance [m^2] plus the
        rotation weight times half the squared Frobenius norm of the rotation matrices' difference, which is
        the squared angle where that is small. The gradient is taken backwards through the same calls.

        Args:
            reference: poses of the tool center point in the base frame ``[B, H, 9]``: position [m] and rot6d.
            positions: joint positions at the start ``[B, J]`` [rad].

        Returns:
            Cost ``[B]`` and its gradient ``[B, H, 9]``.

        Raises:
            SpecError: the reference has another shape.
        """
        targets = pose_matrix(*split_reference(reference))
        batch, steps = targets.shape[:2]
        cost, ticks, ends = np.zeros(batch), [], []
        for index in range(steps):
            positions, tick = self._tick(targets[:, index], positions)
            pose, jacobian = self.kinematics.forward_and_jacobian(positions)
            ends.append((pose, jacobian))
            ticks.append(tick)
            apart = pose[..., :3, :] - targets[:, index, :3, :]
            cost += np.sum(apart[..., 3] ** 2, axis=-1)
            cost += 0.5 * self._rotation_weight * np.sum(apart[..., :3] ** 2, axis=(-1, -2))
        gradient = np.empty((batch, steps, 9))
        by_positions = np.zeros_like(positions)
        for index in reversed(range(steps)):
            target, (pose, jacobian) = targets[:, index], ends[index]
            apart = pose[..., :3, 3] - target[..., :3, 3]
            turn = antisymmetric_part(pose[..., :3, :3] @ target[..., :3, :3].swapaxes(-1, -2))
            by_pose = 2.0 * np.concatenate([apart, self._rotation_weight * turn], axis=-1)
            by_positions = by_positions + (jacobian.swapaxes(-1, -2) @ by_pose[..., None])[..., 0]
            by_positions, by_target = self._tick_backward(ticks[index], by_positions)
            gradient[:, index, :3] = by_target[..., :3] - 2.0 * apart
            by_rotation = 0.5 * cross_matrix(by_target[..., 3:]) @ target[..., :3, :3]
            by_rotation = by_rotation - self._rotation_weight * pose[..., :3, :3]
            gradient[:, index, 3:] = gradient_of_rot6d(np.asarray(reference)[:, index, 3:], by_rotation)
        return cost, gradient

    def _tick(self, target_pose: Array, positions: Array) -> tuple[Array, _Tick]:
        """``solve`` with all iterations, and what it did."""
        start = self._admit(positions)
        solution, steps = start, []
        for _ in range(self.iterations):
            step = DampedStep.toward(self.kinematics, target_pose, solution, self._damping)
            wanted = solution + step.move
            solution = self._admit(wanted)
            steps.append((step, solution == wanted))
        way = solution - start
        excess = self._excess(way)
        return start + way / np.maximum(excess, 1.0), _Tick(start == positions, steps, way, excess)

    def _tick_backward(self, tick: _Tick, gradient: Array) -> tuple[Array, Array]:
        """Takes a gradient by ``_tick``'s result back to its start ``[B, J]`` and its target ``[B, 6]``."""
        excess = np.maximum(tick.excess, 1.0)
        by_way = gradient / excess
        by_excess = -np.sum(gradient * tick.way, axis=-1, keepdims=True) / excess**2
        limiting = np.abs(tick.way) / self._largest_step == tick.excess
        slope = np.sign(tick.way) / self._largest_step
        by_way = by_way + np.where(limiting & (tick.excess > 1.0), by_excess * slope, 0.0)
        by_start, by_solution = gradient - by_way, by_way
        by_target = np.zeros((*gradient.shape[:-1], 6))
        for step, admitted in reversed(tick.steps):
            by_solution = np.where(admitted, by_solution, 0.0)
            through, target = step.backward(by_solution)
            by_solution, by_target = by_solution + through, by_target + target
        return np.where(tick.admitted, by_start + by_solution, 0.0), by_target

    def _admit(self, positions: Array) -> Array:
        return np.minimum(np.maximum(positions, self._lower), self._upper)

    def _excess(self, step: Array) -> Array:
        """How many periods a step takes at the joints' speed limits ``[B, 1]``."""
        return np.asarray(np.max(np.abs(step) / self._largest_step, axis=-1, keepdims=True))

    def _smooth(self, step: Array, start: Array, previous: Array) -> Array:
        """The step within the acceleration limits; those of speed and position come first."""
        change = self._largest_change
        step = np.clip(step, previous - change, previous + change)
        below = np.minimum(self._largest_step, _braking(start - self._lower, change))
        above = np.minimum(self._largest_step, _braking(self._upper - start, change))
        return np.clip(step, -below, above)


def _braking(room: Array, change: Array) -> Array:
    """The largest step from which steps that shrink by ``change`` each come to rest within ``room``.

    Whole changes 1 + 2 + ... + k fit in, and what is left over is shared by the k + 1 steps.
    """
    room = np.maximum(room, 0.0) / change
    whole = np.floor(np.sqrt(0.25 + 2.0 * room) - 0.5)
    return np.asarray(change * (whole + (room - 0.5 * whole * (whole + 1.0)) / (whole + 1.0)))
