"""Which rotor thrusts give a wrench, as far as the rotors' limits allow it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robopolicy_datasets.errors import SpecError
from robopolicy_datasets.geometry import Array
from robopolicy_drivers.control.quadratic_program import Bounds, solve_quadratic_program
from robopolicy_drivers.embodiments import FlyingBase

TORQUE_FIRST = (1.0, 1.0, 1.0, 100.0, 100.0, 1.0)

_LEAST_EFFORT = 1e-9  # weight of the squared shares of the thrust limits, which settles what is left open
_TOLERANCE = 1e-12
_ROUNDING = 1e-9  # of a thrust limit


@dataclass(frozen=True)
class Allocated:
    """Thrusts, and what they fall short of.

    Attributes:
        thrusts: of the rotors ``[..., R]`` [N], each within 0 and its limit.
        missing: what was asked for less what these give ``[..., 6]`` [N, N m].
    """

    thrusts: Array
    missing: Array


class Allocation:
    """Bounded least squares: exact where the rotors can give the wrench, of all ways the least thrusts.

    Args:
        base: with the rotors.
        weights: how bad it is to lack 1 N or 1 N m of each axis (6). Without torque about x and y a
            multirotor tumbles, so that these come first; torque about z only turns it, and costs much thrust.
    """

    def __init__(self, base: FlyingBase, *, weights: Sequence[float] = TORQUE_FIRST) -> None:
        self._matrix, self._limits = base.wrench_matrix, base.thrust_limits
        self._weights = np.array(weights)
        self._inverse = np.linalg.pinv(self._matrix)
        weighted = self._weights[:, None] * self._matrix * self._limits
        self._transposed = weighted.T
        self._hessian = weighted.T @ weighted + _LEAST_EFFORT * np.eye(len(self._limits))
        count = len(self._limits)
        none = np.zeros(0)
        self._bounds = Bounds(np.zeros(count), np.ones(count), np.zeros((0, count)), none, none)

    def allocate(self, wrench: Array) -> Allocated:
        """Distributes wrenches over the rotors.

        Args:
            wrench: force and torque on the base, along its axes ``[..., 6]`` [N, N m].

        Raises:
            SpecError: the last axis is not 6 long.
        """
        wrench = np.asarray(wrench, dtype=np.float64)
        if wrench.shape[-1:] != (6,):
            raise SpecError(f"The wrench has the shape {list(wrench.shape)}; [..., 6] is needed.")
        asked = wrench.reshape(-1, 6)
        thrusts = asked @ self._inverse.T
        slack = _ROUNDING * self._limits
        beyond = np.any((thrusts < -slack) | (thrusts > self._limits + slack), axis=1)
        if beyond.any():
            thrusts[beyond] = self._bounded(asked[beyond])
        thrusts = np.clip(thrusts, 0.0, self._limits)
        missing = asked - thrusts @ self._matrix.T
        return Allocated(thrusts.reshape(*wrench.shape[:-1], -1), missing.reshape(wrench.shape))

    def _bounded(self, wrench: Array) -> Array:
        gradient = -(self._weights * wrench) @ self._transposed.T
        hessian = np.broadcast_to(self._hessian, (len(wrench), *self._hessian.shape))
        start = np.full_like(gradient, 0.5)
        shares = solve_quadratic_program(hessian, gradient, self._bounds, start, tolerance=_TOLERANCE)
        return np.asarray(shares * self._limits)
