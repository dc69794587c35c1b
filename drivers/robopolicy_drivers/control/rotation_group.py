"""The rotation group in numpy, batched over leading axes and quick for one rotation.

Notation and formulas are those of Sola, Deray, Atchuthan, "A micro Lie theory for state estimation in
robotics" (equations 132, 143, 144). ``robopolicy_datasets.geometry`` has the conversions.
"""

from __future__ import annotations

import numpy as np

from robopolicy_datasets.geometry import Array, matrix_to_axis_angle

_SMALL = 1e-4  # [rad] below which the series are exact to double precision
_TINY = 1e-9
_NEXT, _LAST = np.array([1, 2, 0]), np.array([2, 0, 1])
_BELOW, _ABOVE = np.array([7, 2, 3]), np.array([5, 6, 1])  # of a matrix's nine entries, row by row
_IDENTITY = np.eye(3)
_CROSS = np.zeros((3, 9))
_CROSS[range(3), _BELOW], _CROSS[range(3), _ABOVE] = 1.0, -1.0


def cross(left: Array, right: Array) -> Array:
    """``np.cross`` of ``[..., 3]`` without its overhead, which dominates for one robot."""
    return left.take(_NEXT, -1) * right.take(_LAST, -1) - left.take(_LAST, -1) * right.take(_NEXT, -1)


def cross_matrix(vector: Array) -> Array:
    """Returns the matrices ``[..., 3, 3]`` with ``K @ x == cross(vector, x)`` of vectors ``[..., 3]``."""
    return np.asarray((vector @ _CROSS).reshape(*vector.shape, 3))


def antisymmetric_part(matrix: Array) -> Array:
    """Returns the vectors ``[..., 3]`` whose ``cross_matrix`` is ``(M - M^T) / 2``."""
    entries = matrix.reshape(*matrix.shape[:-2], 9)
    return 0.5 * (entries.take(_BELOW, -1) - entries.take(_ABOVE, -1))


def exponential(turn: Array) -> Array:
    """Returns the rotation matrices ``[..., 3, 3]`` of axis-angles ``[..., 3]`` [rad]."""
    first, second, _, once, twice = _series(turn)
    return _IDENTITY + first * once + second * twice


def rotation_vector(matrix: Array) -> Array:
    """``matrix_to_axis_angle``, ten times faster where no angle is close to pi."""
    cosine = 0.5 * (matrix[..., 0, 0] + matrix[..., 1, 1] + matrix[..., 2, 2] - 1.0)
    if cosine.min() < -0.9:
        return matrix_to_axis_angle(matrix)
    sine = antisymmetric_part(matrix)
    length = np.sqrt(np.sum(sine * sine, axis=-1))
    scale = np.arctan2(length, cosine) / np.maximum(length, _TINY)
    return sine * np.where(length > _TINY, scale, 1.0)[..., None]


def right_jacobian(turn: Array) -> Array:
    """Returns the matrices ``[..., 3, 3]`` with ``Exp(turn + d) = Exp(turn) Exp(J d)`` for small d."""
    _, second, third, once, twice = _series(turn)
    return _IDENTITY - second * once + third * twice


def inverse_right_jacobian(turn: Array) -> Array:
    """Returns the inverses of ``right_jacobian`` for axis-angles ``[..., 3]`` of less than a full turn."""
    angle = np.sqrt(np.sum(turn * turn, axis=-1))[..., None, None]
    half = 0.5 * np.maximum(angle, _SMALL)
    second = np.where(angle < _SMALL, 1.0 / 12.0, (1.0 - half / np.tan(half)) / (2.0 * half) ** 2)
    once = cross_matrix(turn)
    return _IDENTITY + 0.5 * once + second * (once @ once)


def _series(turn: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Returns sin(a)/a, (1 - cos a)/a^2, (a - sin a)/a^3, K and K^2 of axis-angles with the angle a."""
    square = np.sum(turn * turn, axis=-1)[..., None, None]
    angle = np.maximum(np.sqrt(square), _SMALL)
    sine = np.sin(angle)
    small = square < _SMALL**2
    first = np.where(small, 1.0 - square / 6.0, sine / angle)
    second = np.where(small, 0.5, (1.0 - np.cos(angle)) / angle**2)
    third = np.where(small, 1.0 / 6.0, (angle - sine) / angle**3)
    once = cross_matrix(turn)
    return first, second, third, once, once @ once
