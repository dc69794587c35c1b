"""Trajectory through time-stamped waypoints, with bounded speed, re-plannable from the commanded state.

Between waypoints the motion is linear (rotations: along the geodesic). A waypoint that cannot be reached in
time is reached as soon as the speed limits allow. A new waypoint replaces the ones at or after its time, and
every plan starts from where the old plan is at that moment, so the commanded state never jumps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy_datasets.clock import NANOSECONDS
from robopolicy_datasets.errors import ConfigError, SpecError

Quaternion = tuple[float, float, float, float]


@dataclass(frozen=True)
class WaypointPart:
    """Some consecutive entries of a waypoint that move together.

    Attributes:
        size: how many entries.
        speed: the largest speed of their Euclidean norm [unit/s], of the angle for a rotation [rad/s].
        kind: "linear"; "rotation" for an axis-angle (size 3); "immediate" for a device that plans its own
            motion, such as a gripper: it is given each waypoint's value as soon as the one before is reached.
    """

    size: int
    speed: float = math.inf
    kind: Literal["linear", "rotation", "immediate"] = "linear"

    def __post_init__(self) -> None:
        if self.size < 1 or not self.speed > 0:
            raise ConfigError(f"{self} cannot move: size and speed must be above 0.")
        if self.kind == "rotation" and self.size != 3:
            raise ConfigError(f"{self} is no rotation: an axis-angle has size 3.")


class WaypointInterpolator:
    """See the module text. Not thread-safe: it belongs to one control loop.

    Args:
        start: the commanded state now, ``[A]``.
        parts: the parts of a waypoint, in order; their sizes sum to A.
    """

    def __init__(self, start: ArrayLike, parts: Sequence[WaypointPart]) -> None:
        self.size = sum(part.size for part in parts)
        ends = itertools.accumulate(part.size for part in parts)
        self._parts = [(slice(end - part.size, end), part) for end, part in zip(ends, parts, strict=True)]
        self._times = [0]
        self._points = [self._checked(start)]

    @property
    def finish_ns(self) -> int:
        """When the last waypoint will be reached [ns, monotonic]."""
        return self._times[-1]

    def evaluate(self, time_ns: int) -> NDArray[np.float64]:
        """Returns the commanded state ``[A]`` at a time [ns, monotonic]."""
        times = self._times
        if time_ns >= times[-1]:
            return self._points[-1].copy()
        if time_ns <= times[0]:
            return self._points[0].copy()
        after = next(index for index, time in enumerate(times) if time > time_ns)
        share = (time_ns - times[after - 1]) / (times[after] - times[after - 1])
        return self._between(self._points[after - 1], self._points[after], share)

    def schedule(self, target: ArrayLike, at_ns: int, now_ns: int) -> int:
        """Plans to be at ``target`` at ``at_ns``, after the waypoints before that time.

        Args:
            target: ``[A]``.
            at_ns: when [ns, monotonic]; a time that is past means as soon as the limits allow.
            now_ns: the time at which the new plan begins.

        Returns:
            when the target will be reached [ns, monotonic].
        """
        point = self._checked(target)
        kept = [(t, p) for t, p in zip(self._times, self._points, strict=True) if now_ns < t < at_ns]
        plan = [(now_ns, self.evaluate(now_ns)), *kept]
        previous_ns, previous = plan[-1]
        arrival_ns = max(at_ns, previous_ns + self._shortest_ns(previous, point))
        plan.append((arrival_ns, point))
        self._times = [time for time, _ in plan]
        self._points = [point for _, point in plan]
        return arrival_ns

    def hold(self, now_ns: int) -> NDArray[np.float64]:
        """Drops all waypoints and stays at the state commanded now; returns it ``[A]``."""
        state = self.evaluate(now_ns)
        self._times, self._points = [now_ns], [state]
        return state.copy()

    def _checked(self, target: ArrayLike) -> NDArray[np.float64]:
        point = np.array(target, np.float64)
        if point.shape != (self.size,):
            raise SpecError(
                f"A waypoint of shape {point.shape} was given; this trajectory takes ({self.size},)."
            )
        if not np.isfinite(point).all():
            raise SpecError(f"A waypoint must be finite; given: {point.tolist()}.")
        return point

    def _shortest_ns(self, start: NDArray[np.float64], end: NDArray[np.float64]) -> int:
        seconds = 0.0
        for span, part in self._parts:
            if part.kind == "rotation":
                distance = _norm(rotation_between(start[span].tolist(), end[span].tolist()))
            else:
                distance = math.dist(start[span].tolist(), end[span].tolist())
            seconds = max(seconds, distance / part.speed)
        return math.ceil(seconds * NANOSECONDS)

    def _between(
        self, start: NDArray[np.float64], end: NDArray[np.float64], share: float
    ) -> NDArray[np.float64]:
        state = start + share * (end - start)
        for span, part in self._parts:
            if part.kind == "rotation":
                state[span] = interpolate_rotation(start[span].tolist(), end[span].tolist(), share)
            elif part.kind == "immediate":
                state[span] = end[span]
        return state


def interpolate_rotation(start: list[float], end: list[float], share: float) -> list[float]:
    """Returns the axis-angle at a share of the way from ``start`` to ``end``, along the geodesic."""
    if start == end:
        return start
    turn = [share * value for value in rotation_between(start, end)]
    return _to_axis_angle(_multiply(_to_quaternion(start), _to_quaternion(turn)))


def rotation_between(start: list[float], end: list[float]) -> list[float]:
    """Returns the axis-angle of ``inv(start) * end``, at most a half turn."""
    w, x, y, z = _to_quaternion(start)
    return _to_axis_angle(_multiply((w, -x, -y, -z), _to_quaternion(end)))


def _norm(vector: list[float]) -> float:
    return math.sqrt(vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2])


def _to_quaternion(axis_angle: list[float]) -> Quaternion:
    angle = _norm(axis_angle)
    scale = math.sin(0.5 * angle) / angle if angle > 1e-12 else 0.5
    return math.cos(0.5 * angle), scale * axis_angle[0], scale * axis_angle[1], scale * axis_angle[2]


def _to_axis_angle(quaternion: Quaternion) -> list[float]:
    w, x, y, z = quaternion if quaternion[0] >= 0 else tuple(-value for value in quaternion)
    sine = math.sqrt(x * x + y * y + z * z)
    scale = 2.0 * math.atan2(sine, w) / sine if sine > 1e-12 else 2.0
    return [scale * x, scale * y, scale * z]


def _multiply(first: Quaternion, second: Quaternion) -> Quaternion:
    a, b, c, d = first
    e, f, g, h = second
    return (
        a * e - b * f - c * g - d * h,
        a * f + b * e + c * h - d * g,
        a * g - b * h + c * e + d * f,
        a * h + b * g - c * f + d * e,
    )
