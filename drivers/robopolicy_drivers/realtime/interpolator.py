"""Trajectory through time-stamped waypoints: smooth, with bounded speed and acceleration, re-plannable.

The motion is a chain of cubic segments (``segment``) without jumps of position or velocity; rotations follow
the axis-angle from each segment's begin. It passes waypoints that have a successor and comes to rest at the
last one. The last one is reached as soon as the limits allow, if not in time; one with a successor that
cannot be reached in time is left out. A new waypoint replaces the ones at or after its time, and every plan
starts from the commanded position and velocity.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy_datasets.clock import ns_to_seconds, seconds_to_ns
from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_drivers.realtime.rotations import (
    Quaternion,
    angular_velocity,
    rate_of_turn,
    to_axis_angle,
    to_quaternion,
    turn_between,
    turned,
)
from robopolicy_drivers.realtime.segment import Way, via_velocity

Array = NDArray[np.float64]

_SHORTEST_S = 1e-6
_UNLIMITED = 1e9  # instead of infinity, with which there is no reckoning


@dataclass(frozen=True)
class WaypointPart:
    """Some consecutive entries of a waypoint that move together.

    Attributes:
        size: how many entries.
        speed: the largest speed of their Euclidean norm [unit/s], of the angle for a rotation [rad/s].
        acceleration: the largest norm of their acceleration [unit/s^2]; for a rotation that of the axis-angle
            from a segment's begin, which is the angular acceleration while the segment turns little.
        kind: "linear"; "rotation" for an axis-angle (size 3); "immediate" for a device that plans its own
            motion, such as a gripper: it is given each waypoint's value as soon as the one before is reached.
    """

    size: int
    speed: float = math.inf
    acceleration: float = math.inf
    kind: Literal["linear", "rotation", "immediate"] = "linear"

    def __post_init__(self) -> None:
        if self.size < 1 or not (self.speed > 0 and self.acceleration > 0):
            raise ConfigError(f"{self} cannot move: size, speed and acceleration must be above 0.")
        if self.kind == "rotation" and self.size != 3:
            raise ConfigError(f"{self} is no rotation: an axis-angle has size 3.")


class _State(NamedTuple):
    """Where the P moving parts are and how they move.

    Attributes:
        time_ns: when; of a waypoint when it is wanted [ns, monotonic].
        values: ``[A]`` as they were given of a waypoint; of a moving state those of the waypoint ahead.
        places: of the linear parts ``[P, W]``, padded with zeros; zero for rotations.
        turns: of the rotations.
        velocity: ``[P, W]``; of rotations the angular velocity in their own frame.
    """

    time_ns: int
    values: Array
    places: Array
    turns: tuple[Quaternion, ...]
    velocity: Array


class _Segment(NamedTuple):
    """The way to a waypoint.

    Attributes:
        begin_ns: when it begins [ns, monotonic].
        end_ns: when the waypoint is reached [ns, monotonic].
        transient_s: until when the first coefficients count ``[P, 1, 1]`` [s].
        coefficients: of the cubics in and after the transients ``[2, P, 4, W]``, in seconds from the begin.
        turns: which the rotations' axis-angles are counted from.
        end: the waypoint.
    """

    begin_ns: int
    end_ns: int
    transient_s: Array
    coefficients: Array
    turns: tuple[Quaternion, ...]
    end: _State

    def at(self, time_ns: int) -> tuple[Array, Array]:
        """Returns the places and their rates at a time, ``[P, W]`` each."""
        t = max(0.0, ns_to_seconds(time_ns - self.begin_ns))
        cubics = np.where(t < self.transient_s, self.coefficients[0], self.coefficients[1])
        both = np.array([[1.0, t, t * t, t * t * t], [0.0, 1.0, 2 * t, 3 * t * t]]) @ cubics
        return both[:, 0], both[:, 1]


class WaypointInterpolator:
    """See the module text. Not thread-safe: it belongs to one control loop.

    Args:
        start: the commanded state now ``[A]``, at rest.
        parts: the parts of a waypoint, in order; their sizes sum to A.
    """

    def __init__(self, start: ArrayLike, parts: Sequence[WaypointPart]) -> None:
        self.size = sum(part.size for part in parts)
        ends = itertools.accumulate(part.size for part in parts)
        spans = [(slice(end - part.size, end), part) for end, part in zip(ends, parts, strict=True)]
        moving = [(span, part) for span, part in spans if part.kind != "immediate"]
        self._linear = [(row, span) for row, (span, part) in enumerate(moving) if part.kind == "linear"]
        self._rotations = [(row, span) for row, (span, part) in enumerate(moving) if part.kind == "rotation"]
        self._shape = len(moving), max((part.size for _, part in moving), default=1)
        self._speed = [min(part.speed, _UNLIMITED) for _, part in moving]
        self._acceleration = [min(part.acceleration, _UNLIMITED) for _, part in moving]
        self._end, self._finish_ns = self._at_rest(start, 0), 0
        self._segments: list[_Segment] = []

    @property
    def finish_ns(self) -> int:
        """When the last waypoint will be reached [ns, monotonic]."""
        return self._finish_ns

    def evaluate(self, time_ns: int) -> Array:
        """Returns the commanded state ``[A]`` at a time [ns, monotonic]."""
        segment = self._segment(time_ns)
        return self._end.values.copy() if segment is None else self._told(segment, segment.at(time_ns)[0])

    def before(self, time_ns: int, now_ns: int) -> Array:
        """Returns the waypoint ``[A]`` before a time, or the commanded state now where there is none."""
        kept = self._kept(time_ns, now_ns)
        return kept[-1].end.values.copy() if kept else self.evaluate(now_ns)

    def schedule(self, target: ArrayLike, at_ns: int, now_ns: int) -> int:
        """Plans to be at ``target`` at ``at_ns``, after the waypoints before that time.

        Args:
            target: ``[A]``.
            at_ns: when [ns, monotonic]; a time that is past means as soon as the limits allow.
            now_ns: the time at which the new plan begins.

        Returns:
            when the target will be reached [ns, monotonic].
        """
        last, state = self._at_rest(target, at_ns), self._state(now_ns)
        kept = self._kept(at_ns, now_ns)
        goes_on = len(kept) > 1 and kept[0].begin_ns <= now_ns  # without the last one it stays as it is
        self._segments = kept[:-1] if goes_on else []
        if goes_on:
            state = kept[-2].end._replace(time_ns=kept[-2].end_ns)
        waypoints = [segment.end for segment in kept[len(self._segments) :]]
        if kept:
            before = waypoints[-2] if len(waypoints) > 1 else state
            waypoints[-1] = self._passed(before, waypoints[-1], last)
        waypoints.append(last)
        for waypoint in waypoints:
            way = self._way(state, waypoint)
            wanted_s = ns_to_seconds(waypoint.time_ns - state.time_ns)
            duration_s = way.duration_s(wanted_s)
            if waypoint is last or duration_s <= wanted_s:
                state = self._append(state, waypoint, way, duration_s)
        return self._finish_ns

    def hold(self, now_ns: int) -> Array:
        """Drops all waypoints and brakes; returns the state ``[A]`` at which it comes to rest."""
        state = self._state(now_ns)
        speed = np.sqrt((state.velocity * state.velocity).sum(axis=1))
        # v0 (1 - t / T)^2: from -2 v0 / T the deceleration falls to nothing, after a way of v0 T / 3.
        braking_s = max(2.0 * float((speed / self._acceleration).max(initial=0.0)), _SHORTEST_S)
        values, change = self.evaluate(now_ns), state.velocity * (braking_s / 3.0)
        for row, span in self._linear:
            values[span] += change[row, : span.stop - span.start]
        for (row, span), turn in zip(self._rotations, state.turns, strict=True):
            if change[row].any():
                values[span] = to_axis_angle(turned(turn, change[row, :3].tolist()))
        rest = self._at_rest(values, now_ns)
        self._segments = []
        self._append(state, rest, self._way(state, rest), braking_s)
        return values.copy()

    def _kept(self, time_ns: int, now_ns: int) -> list[_Segment]:
        """Returns the segments to the waypoints that are wanted from now until before a time."""
        return [segment for segment in self._segments if now_ns < segment.end.time_ns < time_ns]

    def _append(self, start: _State, end: _State, way: Way, duration_s: float) -> _State:
        """Appends the segment between two states; returns the end with the time at which it is reached."""
        transient_s, coefficients = way.coefficients(duration_s)
        coefficients[:, :, 0] += start.places
        self._finish_ns = start.time_ns + max(1, seconds_to_ns(duration_s))
        self._segments.append(
            _Segment(start.time_ns, self._finish_ns, transient_s, coefficients, start.turns, end)
        )
        self._end = end
        return end._replace(time_ns=self._finish_ns)

    def _passed(self, before: _State, waypoint: _State, after: _State) -> _State:
        """Returns a waypoint with the velocity that it is passed with."""
        wanted_s = max(ns_to_seconds(waypoint.time_ns - before.time_ns), _SHORTEST_S)
        after_s = ns_to_seconds(after.time_ns - waypoint.time_ns)
        vectors = self._vectors(self._between(before, waypoint), before.velocity)
        vectors[:, 2] = self._between(waypoint, after)
        velocity = via_velocity(vectors, wanted_s, after_s, self._speed, self._acceleration)
        return waypoint._replace(velocity=velocity)

    def _way(self, start: _State, end: _State) -> Way:
        vectors = self._vectors(self._between(start, end), start.velocity)
        vectors[:, 2] = end.velocity
        for row, _ in self._rotations:
            velocity = vectors[row, 2, :3].tolist()
            if any(velocity):
                vectors[row, 2, :3] = rate_of_turn(vectors[row, 0, :3].tolist(), velocity)
        return Way(vectors, self._speed, self._acceleration)

    def _between(self, start: _State, end: _State) -> Array:
        """Returns the way from one state to another ``[P, W]``, of rotations as axis-angles."""
        way = end.places - start.places
        for (row, _), one, other in zip(self._rotations, start.turns, end.turns, strict=True):
            way[row, :3] = turn_between(one, other)
        return way

    def _vectors(self, way: Array, first: Array) -> Array:
        """Returns what a ``Way`` is made of ``[P, 3, W]``, its last row to be filled."""
        vectors = np.empty((len(way), 3, self._shape[1]))
        vectors[:, 0], vectors[:, 1] = way, first
        return vectors

    def _segment(self, time_ns: int) -> _Segment | None:
        return next((segment for segment in self._segments if time_ns < segment.end_ns), None)

    def _state(self, time_ns: int) -> _State:
        """Returns the commanded state at a time."""
        segment = self._segment(time_ns)
        if segment is None:
            return self._end._replace(time_ns=time_ns)
        places, velocity = segment.at(time_ns)
        turns = []
        for (row, _), base in zip(self._rotations, segment.turns, strict=True):
            turn = places[row, :3].tolist()
            velocity[row, :3] = angular_velocity(turn, velocity[row, :3].tolist())
            turns.append(turned(base, turn))
            places[row] = 0.0
        return _State(time_ns, segment.end.values, places, tuple(turns), velocity)

    def _told(self, segment: _Segment, places: Array) -> Array:
        """Returns ``[A]`` for ``[P, W]``; immediate parts are where the segment leads to."""
        values = segment.end.values.copy()
        for row, span in self._linear:
            values[span] = places[row, : span.stop - span.start]
        for (row, span), base in zip(self._rotations, segment.turns, strict=True):
            values[span] = to_axis_angle(turned(base, places[row, :3].tolist()))
        return values

    def _at_rest(self, target: ArrayLike, time_ns: int) -> _State:
        values = np.array(target, np.float64)
        if values.shape != (self.size,):
            raise SpecError(
                f"A waypoint of shape {values.shape} was given; this trajectory takes ({self.size},)."
            )
        if not np.isfinite(values).all():
            raise SpecError(f"A waypoint must be finite; given: {values.tolist()}.")
        places = np.zeros(self._shape)
        for row, span in self._linear:
            places[row, : span.stop - span.start] = values[span]
        turns = tuple(to_quaternion(values[span].tolist()) for _, span in self._rotations)
        return _State(time_ns, values, places, turns, np.zeros(self._shape))
