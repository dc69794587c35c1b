"""Inverse kinematics by damped least squares, from the last joint positions (warm start)."""

from __future__ import annotations

import numpy as np

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.geometry import Array, matrix_to_axis_angle
from robopolicy_drivers.control.kinematics import Kinematics

CLOSE_ENOUGH = 1e-5  # [m, rad] error at which iterating stops

_BELOW_DIAGONAL, _ABOVE_DIAGONAL = [7, 2, 3], [5, 6, 1]
_TINY = 1e-9


class DifferentialIK:
    """Turns target poses of the tool center point into joint positions near the present ones.

    The result never leaves the joint limits and is never further from the start than the joints' speed
    limits allow in one period; where that is too far, the way there is followed as far as allowed.

    Args:
        kinematics: of the arm.
        period_s: time until the next call [s].
        iterations: most Gauss-Newton steps of a call.
        damping: of the least squares; larger values move less near singular postures.
    """

    def __init__(
        self, kinematics: Kinematics, *, period_s: float, iterations: int = 4, damping: float = 0.01
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
        self._damping = damping**2 * np.eye(6)

    def solve(self, target_pose: Array, positions: Array) -> Array:
        """Moves joint positions towards target poses.

        Args:
            target_pose: of the tool center point, in the base frame ``[B, 4, 4]``.
            positions: start, best the last commanded joint positions ``[B, J]`` [rad].

        Returns:
            Joint positions ``[B, J]`` [rad].
        """
        start = np.minimum(np.maximum(positions, self._lower), self._upper)
        solution = start
        for _ in range(self.iterations):
            pose, jacobian = self.kinematics.forward_and_jacobian(solution)
            error = np.empty((*solution.shape[:-1], 6, 1))
            error[..., :3, 0] = target_pose[..., :3, 3] - pose[..., :3, 3]
            error[..., 3:, 0] = _rotation_vector(
                target_pose[..., :3, :3] @ pose[..., :3, :3].swapaxes(-1, -2)
            )
            if np.abs(error).max() < CLOSE_ENOUGH:
                break
            transposed = jacobian.swapaxes(-1, -2)
            step = transposed @ np.linalg.solve(jacobian @ transposed + self._damping, error)
            solution = np.minimum(np.maximum(solution + step[..., 0], self._lower), self._upper)
        step = solution - start
        excess = np.max(np.abs(step) / self._largest_step, axis=-1, keepdims=True)
        return start + step / np.maximum(excess, 1.0)


def _rotation_vector(matrix: Array) -> Array:
    """``matrix_to_axis_angle``, ten times faster where no angle is close to pi."""
    flat = matrix.reshape(*matrix.shape[:-2], 9)
    cosine = 0.5 * (flat[..., 0] + flat[..., 4] + flat[..., 8] - 1.0)
    if cosine.min() < -0.9:
        return matrix_to_axis_angle(matrix)
    sine = 0.5 * (flat[..., _BELOW_DIAGONAL] - flat[..., _ABOVE_DIAGONAL])
    length = np.sqrt(np.sum(sine * sine, axis=-1))
    scale = np.arctan2(length, cosine) / np.maximum(length, _TINY)
    return sine * np.where(length > _TINY, scale, 1.0)[..., None]
