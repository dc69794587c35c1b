"""Reference trajectories of the tool center point, and how far a pose is from them, with gradients.

A reference is ``[B, H, 9]``: positions (3) [m] and rot6d, the first two rows of the rotation matrix, at H
future steps. The rot6d need not be orthonormal: Gram and Schmidt's rotation is meant, and gradients are those
with respect to the nine numbers as they are given.
"""

from __future__ import annotations

import numpy as np

from robopolicy_datasets.errors import SpecError
from robopolicy_datasets.geometry import Array, rot6d_to_matrix
from robopolicy_drivers.control.rotation_group import antisymmetric_part, cross, cross_matrix

REFERENCE_SIZE = 9


def split_reference(reference: Array, steps: int | None = None) -> tuple[Array, Array]:
    """Returns positions ``[B, H, 3]`` [m] and rotation matrices ``[B, H, 3, 3]`` of a reference.

    Args:
        reference: ``[B, H, 9]``.
        steps: H, where the controller has a fixed one.

    Raises:
        SpecError: the reference has another shape, or numbers that are not finite.
    """
    reference = np.asarray(reference, dtype=np.float64)
    wanted = "H" if steps is None else steps
    if (
        reference.ndim != 3
        or reference.shape[2] != REFERENCE_SIZE
        or reference.shape[1] != (steps or reference.shape[1])
    ):
        raise SpecError(
            f"The reference has the shape {list(reference.shape)}; [B, {wanted}, 9] is needed: position (3) "
            "and rot6d (6) of each step."
        )
    require_finite("The reference", reference)
    return reference[..., :3], rot6d_to_matrix(reference[..., 3:])


def require_finite(who: str, values: Array) -> None:
    """Raises ``SpecError`` where a number is not finite: a solver would give back its start for it."""
    if not np.isfinite(values).all():
        raise SpecError(
            f"{who} has numbers that are not finite; find out where they come from, and send nothing until "
            "then."
        )


def gradient_of_rot6d(rot6d: Array, gradient: Array) -> Array:
    """Takes a gradient back through ``rot6d_to_matrix``.

    Args:
        rot6d: ``[..., 6]``.
        gradient: of a cost with respect to the entries of the rotation matrix ``[..., 3, 3]``.

    Returns:
        The gradient ``[..., 6]`` with respect to ``rot6d``.
    """
    first, second = rot6d[..., :3], rot6d[..., 3:]
    length = np.linalg.norm(first, axis=-1, keepdims=True)
    x = first / length
    along = np.sum(x * second, axis=-1, keepdims=True)
    rest = second - along * x
    height = np.linalg.norm(rest, axis=-1, keepdims=True)
    y = rest / height
    toward_x, toward_y, toward_z = (gradient[..., row, :] for row in range(3))
    toward_x = toward_x + cross(y, toward_z)
    toward_y = toward_y + cross(toward_z, x)
    toward_rest = (toward_y - np.sum(toward_y * y, axis=-1, keepdims=True) * y) / height
    shadow = np.sum(toward_rest * x, axis=-1, keepdims=True)
    toward_x = toward_x - along * toward_rest - shadow * second
    toward_first = (toward_x - np.sum(toward_x * x, axis=-1, keepdims=True) * x) / length
    return np.concatenate([toward_first, toward_rest - shadow * x], axis=-1)


def rotation_error(target: Array, rotation: Array) -> Array:
    """Returns ``e_R = 1/2 (Rr^T R - R^T Rr)^vee`` ``[..., 3]`` of rotations against targets ``[..., 3, 3]``.

    This is the error of Lee, Leok, McClamroch, "Geometric tracking control of a quadrotor UAV on SE(3)"
    (2010), equation 10: the axis of the turn from the target, as long as the sine of its angle.
    """
    return antisymmetric_part(np.swapaxes(target, -1, -2) @ rotation)


def rotation_error_jacobian(target: Array, rotation: Array) -> Array:
    """Returns the derivative ``[..., 3, 3]`` of ``rotation_error`` by turns of the rotation in its frame."""
    back = np.swapaxes(rotation, -1, -2) @ target
    return 0.5 * (np.trace(back, axis1=-2, axis2=-1)[..., None, None] * np.eye(3) - back)


def rotation_error_gradient(error: Array, rotation: Array) -> Array:
    """Returns the gradient ``[..., 3, 3]`` of ``|e_R|^2`` by the entries of the target matrix."""
    return -rotation @ cross_matrix(error)
