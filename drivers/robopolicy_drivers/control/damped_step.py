"""One step of inverse kinematics by damped least squares, and its derivative taken backwards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robopolicy_datasets.geometry import Array
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.control.rotation_group import cross, inverse_right_jacobian, rotation_vector


@dataclass(frozen=True)
class DampedStep:
    """A step from joint positions towards a target pose, and what it was computed from.

    Attributes:
        error: of the pose: position [m] and axis-angle of the turn to the target [rad], in the base frame
            ``[B, 6]``.
        jacobian: J, of the tool center point ``[B, 6, J]``.
        system: ``J J^T + damping^2`` ``[B, 6, 6]``.
        weights: ``system^-1 error`` ``[B, 6]``.
    """

    error: Array
    jacobian: Array
    system: Array
    weights: Array

    @classmethod
    def toward(
        cls, kinematics: Kinematics, target_pose: Array, positions: Array, damping: Array
    ) -> DampedStep:
        """Computes a step.

        Args:
            kinematics: of the arm.
            target_pose: of the tool center point ``[B, 4, 4]``.
            positions: of the joints ``[B, J]`` [rad].
            damping: the matrix ``damping^2`` ``[6, 6]``.
        """
        pose, jacobian = kinematics.forward_and_jacobian(positions)
        error = np.empty((*positions.shape[:-1], 6))
        error[..., :3] = target_pose[..., :3, 3] - pose[..., :3, 3]
        error[..., 3:] = rotation_vector(target_pose[..., :3, :3] @ pose[..., :3, :3].swapaxes(-1, -2))
        system = jacobian @ jacobian.swapaxes(-1, -2) + damping
        return cls(error, jacobian, system, np.linalg.solve(system, error[..., None])[..., 0])

    @property
    def move(self) -> Array:
        """The step ``J^T weights`` ``[B, J]`` [rad]."""
        return (self.jacobian.swapaxes(-1, -2) @ self.weights[..., None])[..., 0]

    def backward(self, gradient: Array) -> tuple[Array, Array]:
        """Takes a gradient back through ``move``.

        Args:
            gradient: of a cost by the step ``[B, J]``.

        Returns:
            Its gradients by the joint positions ``[B, J]``, and by a shift and a turn of the target in the
            base frame ``[B, 6]``.
        """
        adjoint = np.linalg.solve(self.system, self.jacobian @ gradient[..., None])[..., 0]
        outer = adjoint[..., :, None] * self.weights[..., None, :]
        of_jacobian = self.weights[..., :, None] * gradient[..., None, :]
        of_jacobian = of_jacobian - (outer + outer.swapaxes(-1, -2)) @ self.jacobian
        inverse = inverse_right_jacobian(self.error[..., 3:])
        turn = adjoint[..., 3:, None]
        of_target = np.concatenate([adjoint[..., :3], (inverse @ turn)[..., 0]], axis=-1)
        of_pose = np.concatenate([adjoint[..., :3], (inverse.swapaxes(-1, -2) @ turn)[..., 0]], axis=-1)
        of_positions = jacobian_backward(self.jacobian, of_jacobian)
        return of_positions - (self.jacobian.swapaxes(-1, -2) @ of_pose[..., None])[..., 0], of_target


def jacobian_backward(jacobian: Array, gradient: Array) -> Array:
    """Takes a gradient back through the geometric Jacobian of a chain.

    The derivative of a column by an earlier joint's angle is the column turned about that joint's axis; that
    by a later one is such that the linear parts' derivatives are symmetric.

    Args:
        jacobian: ``[..., 6, J]``.
        gradient: of a cost by its entries ``[..., 6, J]``.

    Returns:
        The gradient by the joint positions ``[..., J]``.
    """
    columns, by_columns = jacobian.swapaxes(-1, -2), gradient.swapaxes(-1, -2)
    linear, axes = columns[..., :3], columns[..., 3:]
    by_linear, by_axes = by_columns[..., :3], by_columns[..., 3:]
    turned = cross(linear, by_linear) + cross(axes, by_axes)
    later = np.cumsum(turned[..., ::-1, :], axis=-2)[..., ::-1, :]
    mixed = cross(by_linear, axes)
    earlier = np.cumsum(mixed, axis=-2) - mixed
    return np.asarray(np.sum(axes * later + linear * earlier, axis=-1))
