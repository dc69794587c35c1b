"""One cubic segment of a trajectory: how long it must take, and its coefficients.

A segment leads from a state with a velocity to a waypoint, where it has another velocity. It is the cubic
from rest to that waypoint, plus a transient in which the first velocity dies away without a displacement that
would last: ``v0 t (1 - t / b)^2`` for ``b`` seconds. Where ``b`` is the whole duration the sum is the
ordinary cubic through both states. ``b`` is shorter where that cubic would run on and swing back, as it does
for a waypoint that is near and for much later.

All parts that move together (P, each padded to W numbers) share their times. Limits are of the Euclidean norm
of each part's velocity and acceleration. All that is asked of vectors are norms of their sums, which follow
from their six products: plain floats, which for so few take a fraction of numpy's time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Triple = tuple[float, float, float]

_BRAKING_SHARE = 4.0 / 6.0  # of the acceleration limit, for the transient
_SHORTEST_S = 1e-6
_TINY = 1e-12
_TOLERANCE = 1e-9
_DOUBLINGS, _HALVINGS = 4, 4  # of the search for a duration


class Way:
    """What a segment has to do: P parts of W numbers.

    Args:
        vectors: of each part its way from begin to end [unit], its velocity at the begin and that at the end
            [unit/s], ``[P, 3, W]``.
        speed: largest speed of each part [unit/s], P of them.
        acceleration: largest acceleration of each part [unit/s^2], P of them.
    """

    def __init__(self, vectors: Array, speed: Sequence[float], acceleration: Sequence[float]) -> None:
        self.vectors = vectors
        self._parts = _parts(vectors, speed, acceleration)

    def duration_s(self, wanted_s: float) -> float:
        """Returns the wanted duration, or one not far above the shortest that keeps the limits [s]."""
        shortest = max([wanted_s, _SHORTEST_S, *[part.fastest_s for part in self._parts]])
        if self._keeps(shortest):
            return shortest
        longest = max([shortest, *[part.sufficient_s for part in self._parts]])
        for _ in range(_DOUBLINGS):
            if self._keeps(longest):
                break
            shortest, longest = longest, 2.0 * longest
        for _ in range(_HALVINGS):
            middle = math.sqrt(shortest * longest)
            if self._keeps(middle):
                longest = middle
            else:
                shortest = middle
        return longest

    def coefficients(self, duration_s: float) -> tuple[Array, Array]:
        """Returns the lengths of the transients ``[P, 1, 1]`` [s], and the coefficients in and after them.

        Coefficients ``[2, P, 4, W]`` are of t^0 to t^3, with t [s] from the segment's begin; the way is
        counted from there too.
        """
        braking_s = [min(part.braking_s, duration_s) for part in self._parts]
        none, slow = (0.0, 0.0, 0.0), (0.0, 1.0, 0.0)
        d, s = 1.0 / duration_s, 1.0 / (duration_s * duration_s)
        second = (none, none, (3 * s, 0.0, -d), (-2 * s * d, 0.0, s))
        first = [(none, slow, (3 * s, -2 / b, -d), (-2 * s * d, 1 / (b * b), s)) for b in braking_s]
        rows = np.array((first, [second] * len(first))).reshape(2, -1, 4, 3)
        return np.array(braking_s).reshape(-1, 1, 1), rows @ self.vectors

    def _keeps(self, duration_s: float) -> bool:
        return all(part.excess(duration_s) <= 1 + _TOLERANCE for part in self._parts)


def via_velocity(
    vectors: Array, wanted_s: float, after_s: float, speed: Sequence[float], acceleration: Sequence[float]
) -> Array:
    """Returns the velocity ``[P, W]`` with which to pass a waypoint.

    It is the slope of the parabola through the waypoint and its neighbours, or as near to it as the segment
    to the waypoint can get in time; at most twice the slower of both sides, so that the way hardly swings
    over.

    Args:
        vectors: of each part the way to the waypoint [unit], the velocity at its begin [unit/s] and the way
            to the next waypoint [unit], ``[P, 3, W]``.
        wanted_s: time for the first way [s].
        after_s: time for the second way, where the speed limits allow it [s].
        speed: as in ``Way``.
        acceleration: as in ``Way``.
    """
    parts = _parts(vectors, speed, acceleration)
    after_s = max([after_s, *[math.sqrt(part.ll) / part.speed for part in parts]])
    weights = [[part.via_weights(wanted_s, after_s)] for part in parts]
    return (np.array(weights).reshape(-1, 1, 3) @ vectors)[:, 0]


class _Part:
    """One part's limits and the products of its way ``d``, first velocity ``f`` and last one ``l``."""

    def __init__(self, products: Sequence[Sequence[float]], speed: float, acceleration: float) -> None:
        (self.dd, self.df, self.dl), (_, self.ff, self.fl), (_, _, self.ll) = products
        self.speed, self.acceleration = speed, acceleration
        self.fastest_s = math.sqrt(self.dd) / speed
        first = max(math.sqrt(self.ff), _TINY)
        self.short_braking_s = 4.0 / _BRAKING_SHARE * first / acceleration
        # A cubic with a first velocity of up to three times its mean does not swing over.
        self.braking_s = max(self.short_braking_s, 3.0 * self.df / (first * first), _TINY)

    @cached_property
    def sufficient_s(self) -> float:
        """A duration that mostly is long enough: a share for the transient, the rest for the cubic [s]."""
        rest = (1 - _BRAKING_SHARE) * self.acceleration
        last = 4 * math.sqrt(self.ll)
        cubic_s = (last + math.sqrt(last * last + 24 * math.sqrt(self.dd) * rest)) / (2 * rest)
        return max(cubic_s, 1.5 * self.fastest_s) + self.short_braking_s

    def excess(self, duration_s: float) -> float:
        """Returns the square of the factor by which a duration exceeds the limits, at worst."""
        r = min(self.braking_s / duration_s, 1.0)
        d = 1.0 / duration_s
        # Sums of way / duration, first and last velocity: accelerations (times the duration) at both ends of
        # the two pieces, the second of which is not there when the transient fills the segment; ...
        accelerations = [(6.0, -4.0 / r, -2.0), (6.0 - 12.0 * r, 2.0 / r, 6.0 * r - 2.0)]
        if r < 1.0:
            accelerations += [(6.0 - 12.0 * r, 0.0, 6.0 * r - 2.0), (-6.0, 0.0, 4.0)]
        # ... and control points of the velocities' Bezier curves, halved, so that they lie close to it.
        velocities = [
            (1.5 * r, 0.0, -0.5 * r),
            (r * (4.5 - 3.0 * r), -0.5, r * (1.5 * r - 1.5)),
            (6.0 * r * (1.0 - r), 0.0, r * (3.0 * r - 2.0)),
            (1.5 + r * (1.5 - 3.0 * r), 0.0, 1.5 * r * r - 0.5),
            (1.5 * (1.0 - r), 0.0, r),
        ]
        return max(
            self._longest(accelerations, d) * (d / self.acceleration) ** 2,
            self._longest(velocities, d) / self.speed**2,
        )

    def via_weights(self, wanted_s: float, after_s: float) -> Triple:
        """Returns the shares of the vectors in ``via_velocity``, where the last one is the second way."""
        total_s = wanted_s + after_s
        # The cubic's acceleration at its end is (2 v0 + 4 v1 - 6 D) / T: none with this velocity, ...
        a, b = 1.5 / wanted_s, -0.5
        # ... from which there is so much to the parabola's slope.
        change = after_s / (wanted_s * total_s) - a, -b, wanted_s / (after_s * total_s)
        share = _shrunk(0.25 * self.acceleration * wanted_s, self._longest([change]))
        weights = a + share * change[0], b + share * change[1], share * change[2]
        slower = min(math.sqrt(self.dd) / wanted_s, math.sqrt(self.ll) / after_s)
        share = _shrunk(min(2.0 * slower, self.speed), self._longest([weights]))
        return share * weights[0], share * weights[1], share * weights[2]

    def _longest(self, sums: Sequence[Triple], d: float = 1.0) -> float:
        """Returns the largest square of the norms of ``a d way + b first + c last``."""
        dd, df, dl, ff, fl, ll = self.dd * d * d, self.df * d, self.dl * d, self.ff, self.fl, self.ll
        squares = [
            a * (a * dd + 2.0 * (b * df + c * dl)) + b * (b * ff + 2.0 * c * fl) + c * c * ll
            for a, b, c in sums
        ]
        return max(squares)


def _parts(vectors: Array, speed: Sequence[float], acceleration: Sequence[float]) -> list[_Part]:
    products = (vectors @ vectors.transpose(0, 2, 1)).tolist()
    return [_Part(*part) for part in zip(products, speed, acceleration, strict=True)]


def _shrunk(longest: float, square: float) -> float:
    """Returns the factor that makes a vector with the square ``square`` no longer than ``longest``."""
    return min(1.0, longest / math.sqrt(max(square, _TINY * _TINY)))
