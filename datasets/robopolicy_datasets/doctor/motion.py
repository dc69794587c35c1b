"""How far values move: distances that know of rotations and of angles that wrap around.

A feature is cut into *groups*: a position moves as one vector, a rotation by one angle, everything else
component by component.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robopolicy_datasets.spec import Feature

Mode = Literal["each", "vector", "angle", "turn"]
MOVING_KINDS = ("position", "axis_angle", "angle", "joint", "width", "pose_width")


def groups(feature: Feature) -> list[tuple[slice, Mode]]:
    """Returns the columns of each group of a feature's flattened values, and how they move."""
    size = feature.size
    if feature.kind == "pose_width" and size % 7 == 0:
        return [
            part
            for first in range(0, size, 7)
            for part in (
                (slice(first, first + 3), "vector"),
                (slice(first + 3, first + 6), "turn"),
                (slice(first + 6, first + 7), "each"),
            )
        ]
    if feature.kind == "axis_angle" and size % 3 == 0:
        return [(slice(first, first + 3), "turn") for first in range(0, size, 3)]
    if feature.kind == "position":
        return [(slice(0, size), "vector")]
    return [(slice(0, size), "angle" if feature.kind == "angle" else "each")]


def distances(feature: Feature, first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """Returns how far values are from one another, ``[T, G]`` for G groups in the feature's unit.

    Args:
        feature: what the values are.
        first: ``[T, *shape]``.
        second: ``[T, *shape]``, or ``[1, *shape]`` for one reference.
    """
    a, b = flat(first), flat(second)
    return np.concatenate([_distance(a[:, part], b[:, part], mode) for part, mode in groups(feature)], axis=1)


def scales(feature: Feature, values: NDArray[Any]) -> NDArray[np.float64]:
    """Returns the usual range of each group ``[G]``: 1st to 99th percentile, at most pi for rotations.

    Args:
        feature: what the values are.
        values: ``[N, *shape]``, finite, N > 0.
    """
    low, high = np.percentile(flat(values), (1, 99), axis=0)
    span, found = high - low, []
    for part, mode in groups(feature):
        if mode == "turn":
            found.append(np.array([np.pi]))
        elif mode == "vector":
            found.append(np.array([np.linalg.norm(span[part])]))
        else:
            found.append(np.minimum(span[part], np.pi) if mode == "angle" else span[part])
    return np.concatenate(found)


def has_two_states(feature: Feature, values: NDArray[Any]) -> NDArray[np.bool_]:
    """Returns for each group ``[G]`` whether it rests at the ends of its range, as grippers do.

    Args:
        feature: what the values are.
        values: ``[N, *shape]``, finite, N > 0.
    """
    data = flat(values)
    low, high = np.percentile(data, (1, 99), axis=0)
    slack = 0.05 * (high - low)
    resting = ((data <= low + slack) | (data >= high - slack)).mean(axis=0) > 0.8
    found = [
        resting[part] if mode == "each" else np.zeros(part.stop - part.start if mode == "angle" else 1, bool)
        for part, mode in groups(feature)
    ]
    return np.concatenate(found)


def shares(distance: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns distances ``[T, G]`` as shares of the scales ``[G]``; any motion of a constant is infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(distance > 0, distance / scale, 0.0)


def flat(values: NDArray[Any]) -> NDArray[np.float64]:
    """Returns values ``[T, *shape]`` as float64 ``[T, C]``."""
    return np.asarray(values, dtype=np.float64).reshape(len(values), -1)


def _distance(a: NDArray[np.float64], b: NDArray[np.float64], mode: Mode) -> NDArray[np.float64]:
    if mode == "vector":
        return np.linalg.norm(a - b, axis=1, keepdims=True)
    if mode == "turn":
        between = Rotation.from_rotvec(a).inv() * Rotation.from_rotvec(b)
        return between.magnitude()[:, None]
    difference = np.abs(a - b)
    return np.abs((difference + np.pi) % (2 * np.pi) - np.pi) if mode == "angle" else difference
