"""Convex quadratic programs by a primal-dual interior-point method, batched over a leading axis.

Mehrotra's predictor and corrector (Nocedal, Wright, "Numerical Optimization", chapter 16.6), dense: for the
hundred or so variables of a condensed control problem, a few small matrix solves are faster than a general
solver's set-up, and a batch of problems costs one call.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robopolicy_datasets.geometry import Array

MOST_ITERATIONS = 40
_KEPT = 0.995  # of the way to the nearest bound that a step goes
_START = 0.1  # smallest slack and multiplier at the start
_TINY = 1e-300
_SIGNS = np.array([[1.0], [-1.0]])


@dataclass(frozen=True)
class Bounds:
    """Bounds of n variables and of M sums of them. Some point keeps them all with room to spare.

    Attributes:
        lower, upper: of the variables, broadcast to ``[B, n]``.
        rows: the sums ``[M, n]``.
        rows_lower, rows_upper: of ``rows @ z``, broadcast to ``[B, M]``.
    """

    lower: Array
    upper: Array
    rows: Array
    rows_lower: Array
    rows_upper: Array

    def room(self, point: Array) -> Array:
        """Returns how far points ``[B, n]`` are within each lower and upper bound ``[B, 2, n + M]``."""
        sums = point @ self.rows.T
        below = np.concatenate([point - self.lower, sums - self.rows_lower], axis=1)
        above = np.concatenate([self.upper - point, self.rows_upper - sums], axis=1)
        return np.stack([below, above], axis=1)

    def room_gained(self, move: Array) -> Array:
        """Returns what a move ``[B, n]`` adds to ``room``."""
        return _SIGNS * np.concatenate([move, move @ self.rows.T], axis=1)[:, None]

    def push(self, price: Array) -> Array:
        """Returns what multipliers ``[B, 2, n + M]`` push the variables with ``[B, n]``."""
        both = price[:, 0] - price[:, 1]
        size = self.rows.shape[1]
        return np.asarray(both[:, :size] + both[:, size:] @ self.rows)

    def curvature(self, ratio: Array) -> Array:
        """Returns what bounds with these multipliers per slack ``[B, 2, n + M]`` add to a Hessian."""
        weights = ratio.sum(axis=1)
        size = self.rows.shape[1]
        matrix = np.asarray((self.rows.T * weights[:, None, size:]) @ self.rows)
        diagonal = np.arange(size)
        matrix[:, diagonal, diagonal] += weights[:, :size]
        return matrix


def solve_quadratic_program(
    hessian: Array, gradient: Array, bounds: Bounds, start: Array, *, tolerance: float
) -> Array:
    """Minimises ``1/2 z^T H z + g^T z`` within bounds.

    Args:
        hessian: H, positive definite ``[B, n, n]``.
        gradient: g ``[B, n]``.
        bounds: of z, which is best scaled so that they are of size 1 or so.
        start: a guess ``[B, n]``.
        tolerance: of the optimality conditions, in units of the largest gradient.

    Returns:
        z ``[B, n]``, within the bounds up to the tolerance.
    """
    scale = 1.0 / np.maximum(np.abs(gradient).max(axis=1), _TINY)
    hessian, gradient = scale[:, None, None] * hessian, scale[:, None] * gradient
    point = start
    slack = np.maximum(bounds.room(point), _START)
    price = np.full_like(slack, _START)
    for _ in range(MOST_ITERATIONS):
        missing = bounds.room(point) - slack
        slope = (hessian @ point[..., None])[..., 0] + gradient - bounds.push(price)
        products = slack * price
        gap = products.mean(axis=(1, 2))
        error = np.maximum(np.abs(slope).max(axis=1), np.abs(missing).max(axis=(1, 2)))
        working = np.maximum(error, gap) > tolerance
        if not working.any():
            break
        newton = _Newton(hessian, bounds, slope, missing, slack, price)
        _, slack_move, price_move = newton.toward(0.0)
        length = _length(slack, slack_move, price, price_move)[:, None, None]
        after = ((slack + length * slack_move) * (price + length * price_move)).mean(axis=(1, 2))
        center = gap * (after / np.maximum(gap, _TINY)) ** 3
        move, slack_move, price_move = newton.toward(center[:, None, None] - slack_move * price_move)
        length = np.where(working, _length(slack, slack_move, price, price_move), 0.0)
        point = point + length[:, None] * move
        slack = slack + length[:, None, None] * slack_move
        price = price + length[:, None, None] * price_move
    return point


class _Newton:
    """The linearised optimality conditions at one iterate, for several targets of slack times multiplier."""

    def __init__(
        self, hessian: Array, bounds: Bounds, slope: Array, missing: Array, slack: Array, price: Array
    ) -> None:
        self._bounds, self._slope, self._missing = bounds, slope, missing
        self._slack, self._price, self._ratio = slack, price, price / slack
        self._system = hessian + bounds.curvature(self._ratio)

    def toward(self, target: Array | float) -> tuple[Array, Array, Array]:
        """Returns the moves of variables, slacks and multipliers."""
        change = (target - self._price * self._missing) / self._slack - self._price
        right = self._bounds.push(change) - self._slope
        move = np.linalg.solve(self._system, right[..., None])[..., 0]
        gained = self._bounds.room_gained(move)
        return move, gained + self._missing, change - self._ratio * gained


def _length(slack: Array, slack_move: Array, price: Array, price_move: Array) -> Array:
    """How much of a move each problem takes, so that slacks and multipliers stay above 0 ``[B]``."""
    steepest = np.maximum(-slack_move / slack, -price_move / price).max(axis=(1, 2))
    return np.asarray(np.minimum(1.0, _KEPT / np.maximum(steepest, _KEPT)))
