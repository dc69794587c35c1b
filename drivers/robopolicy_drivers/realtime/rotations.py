"""Rotations of one body in plain floats: some microseconds each, where numpy takes ten times as long.

A rotation is a quaternion (wxyz) or an axis-angle (3) [rad]; ``robopolicy_datasets.geometry`` has the batched
ones. Jacobians relate an axis-angle's rate to the angular velocity in the rotated (body) frame, as in
Sola, Deray, Atchuthan, "A micro Lie theory for state estimation in robotics", equations 143 and 144.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Quaternion = tuple[float, float, float, float]

_SMALL = 1e-4  # rad, below which the Jacobians' series are exact to double precision


def interpolate_rotation(start: Sequence[float], end: Sequence[float], share: float) -> list[float]:
    """Returns the axis-angle at a share of the way from ``start`` to ``end``, along the geodesic."""
    if start == end:
        return list(start)
    turn = [share * value for value in rotation_between(start, end)]
    return to_axis_angle(turned(to_quaternion(start), turn))


def rotation_between(start: Sequence[float], end: Sequence[float]) -> list[float]:
    """Returns the axis-angle of ``inv(start) * end``, at most a half turn."""
    return turn_between(to_quaternion(start), to_quaternion(end))


def turn_between(start: Quaternion, end: Quaternion) -> list[float]:
    """Returns the axis-angle, in the frame of ``start``, of the turn to ``end``; at most a half turn."""
    w, x, y, z = start
    return to_axis_angle(_multiply((w, -x, -y, -z), end))


def turned(rotation: Quaternion, turn: Sequence[float]) -> Quaternion:
    """Returns a rotation turned by an axis-angle in its own frame."""
    return _multiply(rotation, to_quaternion(turn))


def to_quaternion(axis_angle: Sequence[float]) -> Quaternion:
    """Returns the quaternion of an axis-angle."""
    x, y, z = axis_angle
    angle = math.sqrt(x * x + y * y + z * z)
    scale = math.sin(0.5 * angle) / angle if angle > 1e-12 else 0.5
    return math.cos(0.5 * angle), scale * x, scale * y, scale * z


def to_axis_angle(quaternion: Quaternion) -> list[float]:
    """Returns the axis-angle of a quaternion, at most a half turn."""
    w, x, y, z = quaternion if quaternion[0] >= 0 else tuple(-value for value in quaternion)
    sine = math.sqrt(x * x + y * y + z * z)
    scale = 2.0 * math.atan2(sine, w) / sine if sine > 1e-12 else 2.0
    return [scale * x, scale * y, scale * z]


def angular_velocity(turn: Sequence[float], rate: Sequence[float]) -> list[float]:
    """Returns the angular velocity, in the turned frame, of an axis-angle that changes with ``rate``."""
    angle = math.hypot(*turn)
    if angle < _SMALL:
        first, second = 0.5, 1.0 / 6.0
    else:
        first = (1.0 - math.cos(angle)) / angle**2
        second = (angle - math.sin(angle)) / angle**3
    return _with_cross_products(turn, rate, -first, second)


def rate_of_turn(turn: Sequence[float], velocity: Sequence[float]) -> list[float]:
    """Returns the rate of an axis-angle with the angular velocity ``velocity`` in the turned frame."""
    angle = math.hypot(*turn)
    half = 0.5 * angle
    second = 1.0 / 12.0 if angle < _SMALL else (1.0 - half / math.tan(half)) / angle**2
    return _with_cross_products(turn, velocity, 0.5, second)


def _with_cross_products(
    turn: Sequence[float], vector: Sequence[float], first: float, second: float
) -> list[float]:
    """Returns ``vector + first (turn x vector) + second (turn x (turn x vector))``."""
    once = _cross(turn, vector)
    twice = _cross(turn, once)
    return [value + first * a + second * b for value, a, b in zip(vector, once, twice, strict=True)]


def _cross(one: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    (a, b, c), (d, e, f) = one, other
    return b * f - c * e, c * d - a * f, a * e - b * d


def _multiply(first: Quaternion, second: Quaternion) -> Quaternion:
    a, b, c, d = first
    e, f, g, h = second
    return (
        a * e - b * f - c * g - d * h,
        a * f + b * e + c * h - d * g,
        a * g - b * h + c * e + d * f,
        a * h + b * g - c * f + d * e,
    )
