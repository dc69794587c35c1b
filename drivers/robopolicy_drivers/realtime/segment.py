"""One cubic segment of a trajectory: how long it must take, and its coefficients.

A segment leads from a state with a velocity to a waypoint, where it has another velocity. It is the cubic
from rest to that waypoint, plus a transient in which the first velocity dies away without a displacement that
would last: ``v0 t (1 - t / b)^2`` for ``b`` seconds. Where ``b`` is the whole duration the sum is the
ordinary cubic through both states. ``b`` is shorter where that cubic would run on and swing back, as it does
for a waypoint that is near and for much later.

All parts that move together (P, each padded to W numbers) share their times. Limits are of the Euclidean norm
of each part's velocity and acceleration.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_BRAKING_SHARE = 4.0 / 6.0  # of the acceleration limit, for the transient
_SHORTEST_S = 1e-6
_TINY = 1e-12
_TOLERANCE = 1e-9

# Accelerations (times the duration T) at both ends of the two pieces, then control points of the velocities'
# Bezier curves (halved, so that they lie close to the curve): linear in D = way / T, v0 and v1, each with
# coefficients in 1, r, r^2 and 1 / r, where r is the transient's share of the duration.
_NONE = (0.0, 0.0, 0.0, 0.0)
_ROWS = np.array(
    [
        [(6, 0, 0, 0), (0, 0, 0, -4), (-2, 0, 0, 0)],
        [(6, -12, 0, 0), (0, 0, 0, 2), (-2, 6, 0, 0)],
        [(6, -12, 0, 0), _NONE, (-2, 6, 0, 0)],
        [(-6, 0, 0, 0), _NONE, (4, 0, 0, 0)],
        [(0, 1.5, 0, 0), _NONE, (0, -0.5, 0, 0)],
        [(0, 4.5, -3, 0), (-0.5, 0, 0, 0), (0, -1.5, 1.5, 0)],
        [(0, 6, -6, 0), _NONE, (0, -2, 3, 0)],
        [(1.5, 1.5, -3, 0), _NONE, (-0.5, 0, 1.5, 0)],
        [(1.5, -1.5, 0, 0), _NONE, (0, 1, 0, 0)],
    ],
    np.float64,
)
_ACCELERATIONS = 4
_SECOND_PIECE = slice(2, 4)  # accelerations of a piece that is not there when the transient fills the segment
_TABLE = _ROWS.reshape(-1, 4)
_SPREAD = np.linspace(0.0, 1.0, 16)  # exponents of candidate durations


@dataclass(frozen=True)
class Way:
    """What a segment has to do: P parts of W numbers.

    Attributes:
        way: from its begin to its end ``[P, W]`` [unit].
        first: velocity at its begin ``[P, W]`` [unit/s].
        last: velocity at its end ``[P, W]`` [unit/s].
        speed: largest speed of each part ``[P]`` [unit/s].
        acceleration: largest acceleration of each part ``[P]`` [unit/s^2].
    """

    way: Array
    first: Array
    last: Array
    speed: Array
    acceleration: Array

    @cached_property
    def braking_s(self) -> Array:
        """How long each part's transient lasts where there is time for it ``[P]`` [s]."""
        speed = np.maximum(_norms(self.first), _TINY)
        # A cubic with a first velocity of up to three times its mean does not swing over.
        monotone = 3.0 * np.einsum("pw,pw->p", self.first, self.way) / (speed * speed)
        return np.maximum(np.maximum(4.0 / _BRAKING_SHARE * speed / self.acceleration, monotone), _TINY)

    def duration_s(self, wanted_s: float) -> float:
        """Returns the wanted duration, or the shortest longer one that keeps the limits [s]."""
        shortest = max(wanted_s, float((_norms(self.way) / self.speed).max()), _SHORTEST_S)
        candidates = shortest * max(1.0, self._sufficient_s() / shortest) ** _SPREAD
        excess = self._excess(candidates)
        within = np.flatnonzero(excess <= 1 + _TOLERANCE)
        return float(candidates[within[0] if within.size else np.argmin(excess)])

    def coefficients(self, duration_s: float) -> tuple[Array, Array, Array]:
        """Returns the lengths of the transients ``[P]`` [s], and the coefficients in and after them.

        Coefficients ``[P, W, 4]`` are of t^0 to t^3, with t [s] from the segment's begin; the way is
        counted from there too.
        """
        braking_s = np.minimum(self.braking_s, duration_s)
        share = braking_s[:, None]
        second = np.zeros((*self.way.shape, 4))
        second[..., 2] = (3 * self.way / duration_s - self.last) / duration_s
        second[..., 3] = (self.last - 2 * self.way / duration_s) / duration_s**2
        first = second.copy()
        first[..., 1] = self.first
        first[..., 2] -= 2 * self.first / share
        first[..., 3] += self.first / share**2
        return braking_s, first, second

    def _sufficient_s(self) -> float:
        """Returns a duration that is long enough: the transient takes its share, the cubic the rest [s]."""
        rest = (1 - _BRAKING_SHARE) * self.acceleration
        way, speed = _norms(self.way), 4 * _norms(self.last)
        cubic_s = (speed + np.sqrt(speed * speed + 24 * way * rest)) / (2 * rest)
        braking_s = 4.0 / _BRAKING_SHARE * _norms(self.first) / self.acceleration
        return float((np.maximum(cubic_s, 1.5 * way / self.speed) + braking_s).max())

    def _excess(self, durations: Array) -> Array:
        """Returns by which factor durations ``[C]`` exceed the limits, at worst; 1 is at the limit."""
        share = np.minimum(self.braking_s / durations[:, None], 1.0)
        basis = np.array([np.ones_like(share), share, share * share, 1 / share]).reshape(4, -1)
        rows = (_TABLE @ basis).reshape(len(_ROWS), 3, *share.shape)
        rows[:, 0] /= durations[:, None]
        rows[_SECOND_PIECE] *= share < 1
        states = np.array([self.way, self.first, self.last])
        norms = _norms(np.einsum("rscp,spw->rcpw", rows, states))
        norms[:_ACCELERATIONS] /= durations[:, None] * self.acceleration
        norms[_ACCELERATIONS:] /= self.speed
        return np.asarray(norms.max(axis=(0, 2)))


def via_velocity(before: Way, wanted_s: float, after: Array, after_s: float) -> Array:
    """Returns the velocity ``[P, W]`` with which to pass a waypoint.

    It is the slope of the parabola through the waypoint and its neighbours, or as near to it as the segment
    to the waypoint can get in time; at most twice the slower of both sides, so that the way hardly swings
    over.

    Args:
        before: the segment that ends at the waypoint; its ``last`` does not matter.
        wanted_s: its duration [s].
        after: way to the next waypoint ``[P, W]``.
        after_s: time until then [s].
    """
    slope, next_slope = before.way / wanted_s, after / after_s
    velocity = (slope * after_s + next_slope * wanted_s) / (wanted_s + after_s)
    # The cubic's acceleration at its end is (2 v0 + 4 v1 - 6 D) / T.
    natural = 1.5 * slope - 0.5 * before.first
    change = velocity - natural
    velocity = natural + change * _shrunk(change, 0.25 * before.acceleration * wanted_s)
    slower = np.minimum(_norms(slope), _norms(next_slope))
    return velocity * _shrunk(velocity, np.minimum(2 * slower, before.speed))


def _shrunk(vectors: Array, longest: Array) -> Array:
    """Returns the factors ``[P, 1]`` that make vectors ``[P, W]`` no longer than ``[P]``."""
    return np.minimum(1.0, longest / np.maximum(_norms(vectors), _TINY))[:, None]


def _norms(vectors: Array) -> Array:
    return np.asarray(np.sqrt(np.einsum("...w,...w->...", vectors, vectors)))
