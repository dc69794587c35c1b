"""The way of an arm to its home by joints, which no singular posture and no joint limit blocks.

First the tool rises, as long as it would come lower than home otherwise, so that nothing that lies on a table
is swept; then it goes towards home, as long as it would leave its workspace otherwise; then the joints go
home along a straight line. All of it is slow, and every set point passes the arm's safety gate. Neither
obstacles nor the arm itself are watched.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.geometry import Array
from robopolicy_drivers.control.differential_ik import DifferentialIK
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.safety.checks import Measured
from robopolicy_drivers.safety.gate import SafetyGate

Allows = Callable[[NDArray[np.float64]], bool]
"""Tells whether an arm may rest at all of some joint positions ``[M, J]`` [rad]."""

SPEED_M = 0.2  # of the tool
SPEED_RAD = 0.5  # of each joint
LOWER_M = 0.02  # so much lower than home the tool may come on the straight line
HIGHER_M = 0.1  # so much higher than home it rises at most
_STEP_M = 0.01  # from one solution of the inverse kinematics to the next
_LEAN = 0.1  # of the way up, towards home: a tool at a wall of its workspace is kept from scratching along it
_NEAR_M = 0.1  # so near to being above home, it leans less
_APART = 1e-3  # farther from its way, the arm cannot go on [m, entries of the rotation]
_SAMPLES = 20  # of the straight line
_GENTLE_S = 1.0  # the shortest time from rest to rest
_ARRIVED_RAD = 1e-3
_BLOCKED_S = 1.0  # held so long in all; braking takes much less


def way_home(
    kinematics: Kinematics,
    joints: Array,
    up: Array,
    period_s: float,
    allows: Allows,
) -> Array:
    """Returns the set points of an arm's way home.

    Args:
        kinematics: of the arm.
        joints: where it stands ``[J]`` [rad].
        up: the direction away from the ground, in the frame of the arm's base (3).
        period_s: from one set point to the next [s].
        allows: where the arm may rest: ``SafetyGate.allows``.

    Returns:
        Joint positions ``[N, J]`` [rad], of which the last are those of home. No joint is faster than
        ``SPEED_RAD``, and the tool hardly faster than ``SPEED_M``.
    """
    lead = _lead(kinematics, joints, up, allows)
    legs = [lead] if len(lead) > 1 else []
    legs.append(_line_home(kinematics, lead[-1]))
    return np.concatenate([_slowly(kinematics, leg, period_s) for leg in legs])


class Homing:
    """Follows the way home through an arm's gate.

    Args:
        gate: of the arm; its set points are joint positions.
        way: from where the gate's last set point is ``[N, J]``, as of ``way_home``.
        period_s: time between two ticks [s].
    """

    def __init__(self, gate: SafetyGate, way: Array, period_s: float) -> None:
        self._gate, self._way = gate, way
        self._next = 0
        self._period_s, self._held_s = period_s, 0.0

    @property
    def arrived(self) -> bool:
        """Whether the arm is commanded to be at home."""
        return bool(np.abs(self._gate.sent - self._way[-1]).max() < _ARRIVED_RAD)

    def check(self) -> None:
        """Raises DeviceError where the gate holds the arm on its way."""
        if self._held_s > _BLOCKED_S:
            newest = max(self._gate.log.events(), key=lambda event: event.end_ns)
            raise DeviceError(
                f"The way home is blocked: {newest.text}. Move the arm by hand, or give it more room."
            )

    def tick(
        self,
        now_ns: int,
        *,
        state_ns: int | None = None,
        position: NDArray[np.floating] | None = None,
        measured: Measured | None = None,
    ) -> NDArray[np.float64]:
        """Returns the joint positions ``[J]`` to send now; arguments as of ``SafetyGate.filter``."""
        wanted = self._way[self._next]
        sent = self._gate.filter(wanted, now_ns, state_ns=state_ns, position=position, measured=measured)
        if not self._gate.holding:  # else the way waits
            self._next = min(self._next + 1, len(self._way) - 1)
        if self._gate.holding and not self._gate.silenced:
            self._held_s += self._period_s  # in all: between two tries the gate may let it back a little
        return sent


def _lead(kinematics: Kinematics, joints: Array, up: Array, allows: Allows) -> Array:
    """Returns joint positions ``[M, J]`` of the way to where the line home is high enough and allowed.

    It ends early where the arm can go no farther.
    """
    home = kinematics.forward(kinematics.embodiment.home_positions)[:3, 3]

    def rise(line: Array, rest: Array) -> Array | None:
        if rest @ up < -HIGHER_M or (kinematics.forward(line)[:, :3, 3] @ up).min() > home @ up - LOWER_M:
            return None
        level = rest - (rest @ up) * up
        return np.asarray(up + _LEAN * level / max(float(np.linalg.norm(level)), _NEAR_M))

    def approach(line: Array, rest: Array) -> Array | None:
        distance = float(np.linalg.norm(rest))
        return None if distance < _STEP_M or allows(np.asarray(line, np.float64)) else rest / distance

    ik = DifferentialIK(kinematics, period_s=_STEP_M / SPEED_M)
    goal, way = kinematics.forward(joints), [np.array(joints, np.float64)]
    for direction in (rise, approach):
        while (step := direction(_line_home(kinematics, way[-1]), home - goal[:3, 3])) is not None:
            goal[:3, 3] += _STEP_M * step
            further = ik.solve(goal[None], way[-1][None])[0]
            if np.abs(kinematics.forward(further) - goal).max() > _APART:
                goal = kinematics.forward(way[-1])
                break
            way.append(further)
    return np.array(way)


def _line_home(kinematics: Kinematics, joints: Array) -> Array:
    """Returns joint positions ``[M, J]`` along the straight line home."""
    return np.linspace(joints, kinematics.embodiment.home_positions, _SAMPLES)


def _slowly(kinematics: Kinematics, leg: Array, period_s: float) -> Array:
    """Returns set points ``[N, J]`` through joint positions ``[M, J]``, from rest to rest."""
    turns = np.abs(np.diff(leg, axis=0)).max(axis=1)
    ways = np.linalg.norm(np.diff(kinematics.forward(leg)[:, :3, 3], axis=0), axis=1)
    times = np.concatenate([[0.0], np.cumsum(np.maximum(turns / SPEED_RAD, ways / SPEED_M))])
    # The steepest share of a way from rest to rest, 3 x^2 - 2 x^3, is half as steep again as an even one.
    ticks = math.ceil(max(1.5 * times[-1], _GENTLE_S) / period_s)
    x = np.arange(1, ticks + 1) / ticks
    moments = times[-1] * x**2 * (3.0 - 2.0 * x)
    return np.stack([np.interp(moments, times, joint) for joint in leg.T], axis=-1)
