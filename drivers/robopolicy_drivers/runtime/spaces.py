"""Differences, ways and means of values that hold rotations: what a feature's *kind* says about its numbers.

Actions and states are plain vectors, but half the way between two axis-angles is not their mean. A value is
split into parts; rotations are handled on the rotation group, angles around the circle, all else as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from robopolicy_datasets.errors import SpecError
from robopolicy_datasets.spec import Feature

Array = NDArray[np.float64]

_PARTS: Mapping[str, tuple[tuple[str, int], ...]] = {
    "pose": (("position", 3), ("rotation", 3)),
    "pose_width": (("position", 3), ("rotation", 3), ("other", 1)),
    "axis_angle": (("rotation", 3),),
    "angle": (("angle", 1),),
    "joint": (("joint", 1),),
}
"""What the numbers of a kind are, repeated until the feature is full; kinds not named here are one part."""
_MEAN_ITERATIONS = 10
_MEAN_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Part:
    """Consecutive numbers of a value that belong together.

    Attributes:
        span: where they are.
        kind: "position" [m], "rotation" (an axis-angle), "angle" (wraps around), "joint" [rad] or "other".
    """

    span: slice
    kind: str


class FeatureSpace:
    """Calculates with the values of features laid one after the other.

    Args:
        features: in the order of their numbers.

    Attributes:
        size: numbers of a value.
        parts: of a value, in order.

    Raises:
        SpecError: the size of a feature does not fit its kind.
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        self.parts: list[Part] = []
        self.size = 0
        for feature in features:
            for kind, size in _layout(feature):
                self.parts.append(Part(slice(self.size, self.size + size), kind))
                self.size += size

    def difference(self, start: ArrayLike, end: ArrayLike) -> Array:
        """Returns the way from ``start`` to ``end``; both ``[..., size]``, broadcast.

        Of a rotation it is the axis-angle of ``inv(start) * end``, at most a half turn; of an angle the
        shorter way around.
        """
        first, last = np.broadcast_arrays(np.asarray(start, np.float64), np.asarray(end, np.float64))
        way = np.asarray(last - first)
        for part in self.parts:
            if part.kind == "rotation":
                turn = _rotation(first[..., part.span]).inv() * _rotation(last[..., part.span])
                way[..., part.span] = turn.as_rotvec().reshape(way[..., part.span].shape)
            elif part.kind == "angle":
                way[..., part.span] = np.remainder(way[..., part.span] + np.pi, 2 * np.pi) - np.pi
        return way

    def moved(self, start: ArrayLike, way: ArrayLike) -> Array:
        """Returns where a ``way``, as of ``difference``, leads from ``start``; both ``[..., size]``."""
        first, along = np.broadcast_arrays(np.asarray(start, np.float64), np.asarray(way, np.float64))
        end = np.asarray(first + along)
        for part in self.parts:
            if part.kind == "rotation":
                turned = _rotation(first[..., part.span]) * _rotation(along[..., part.span])
                end[..., part.span] = turned.as_rotvec().reshape(end[..., part.span].shape)
        return end

    def between(self, start: ArrayLike, end: ArrayLike, share: float) -> Array:
        """Returns the value at a share of the way from ``start`` to ``end``, rotations along the geodesic."""
        return self.moved(start, share * self.difference(start, end))

    def mean(self, values: ArrayLike, weights: ArrayLike) -> Array:
        """Returns the weighted mean ``[size]`` of ``values [N, size]``, of rotations the one on the group.

        It is the point from which the weighted ways to all values cancel out (Karcher mean); rotations must
        lie within a half turn.
        """
        samples = np.asarray(values, np.float64)
        shares = np.asarray(weights, np.float64)
        shares = (shares / shares.sum())[:, None]
        center = samples[0]
        for _ in range(_MEAN_ITERATIONS):
            way = (shares * self.difference(center, samples)).sum(0)
            center = self.moved(center, way)
            if np.abs(way).max() < _MEAN_TOLERANCE:
                break
        return center

    def lengths(self, way: Array) -> tuple[float, float]:
        """Returns the longest way of a position [m] and the largest turn [rad] in ``way [size]``."""
        return (
            max((_norm(way, part) for part in self.parts if part.kind == "position"), default=0.0),
            max(
                (_norm(way, part) for part in self.parts if part.kind in ("rotation", "angle", "joint")),
                default=0.0,
            ),
        )

    def with_others(self, value: Array, source: Array) -> Array:
        """Returns ``value`` with the "other" parts, such as a gripper's width, of ``source``; ``[size]``."""
        mixed = value.copy()
        for part in self.parts:
            if part.kind == "other":
                mixed[part.span] = source[part.span]
        return mixed


def _layout(feature: Feature) -> list[tuple[str, int]]:
    in_metres = feature.kind == "position" and feature.unit == "m"
    pattern = _PARTS.get(feature.kind, (("position" if in_metres else "other", feature.size),))
    repeats, rest = divmod(feature.size, sum(size for _, size in pattern))
    if rest:
        raise SpecError(
            f"A feature of kind {feature.kind} has a multiple of {sum(size for _, size in pattern)} numbers; "
            f"this one: {feature.describe()}."
        )
    return list(pattern) * repeats


def _norm(way: Array, part: Part) -> float:
    return float(np.linalg.norm(way[part.span]))


def _rotation(axis_angle: Array) -> Rotation:
    return Rotation.from_rotvec(np.array(axis_angle).reshape(-1, 3))
