"""The way of an arm to its home by joints, which no singular posture and no joint limit blocks.

First the tool rises straight up, as long as it would come lower than home otherwise, so that nothing that
lies on a table is swept; then the joints go home along a straight line. All of it is slow, and every set
point passes the arm's safety gate. Neither obstacles nor the arm itself are watched.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.geometry import Array
from robopolicy_drivers.control.differential_ik import DifferentialIK
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.safety.checks import Measured
from robopolicy_drivers.safety.gate import SafetyGate

SPEED_M = 0.2  # of the tool
SPEED_RAD = 0.5  # of each joint
LOWER_M = 0.02  # so much lower than home the tool may come on the straight line
_RISE_M = 0.01  # from one solution of the inverse kinematics to the next
_APART = 1e-3  # farther from straight up, the arm can rise no more [m, entries of the rotation]
_SAMPLES = 20  # of the straight line
_GENTLE_S = 1.0  # the shortest time from rest to rest
_ARRIVED_RAD = 1e-3
_BLOCKED_S = 0.5  # longer than any braking takes


def way_home(kinematics: Kinematics, joints: Array, up: Array, period_s: float) -> Array:
    """Returns the set points of an arm's way home.

    Args:
        kinematics: of the arm.
        joints: where it stands ``[J]`` [rad].
        up: the direction away from the ground, in the frame of the arm's base (3).
        period_s: from one set point to the next [s].

    Returns:
        Joint positions ``[N, J]`` [rad], of which the last are those of home. No joint is faster than
        ``SPEED_RAD``, and the tool hardly faster than ``SPEED_M``.
    """
    rise = _rise(kinematics, joints, up)
    legs = [rise] if len(rise) > 1 else []
    legs.append(_line_home(kinematics, rise[-1]))
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
        blocked = self._gate.holding and not self._gate.silenced
        self._held_s = self._held_s + self._period_s if blocked else 0.0
        return sent


def _rise(kinematics: Kinematics, joints: Array, up: Array) -> Array:
    """Returns joint positions ``[M, J]`` of the tool's way straight up, until the line home is high enough.

    It ends early where the arm can rise no more.
    """
    ik = DifferentialIK(kinematics, period_s=_RISE_M / SPEED_M)
    low = _heights(kinematics, kinematics.embodiment.home_positions, up) - LOWER_M
    goal, rise = kinematics.forward(joints), [np.array(joints, np.float64)]
    while _heights(kinematics, _line_home(kinematics, rise[-1]), up).min() < low:
        goal[:3, 3] += _RISE_M * up
        higher = ik.solve(goal[None], rise[-1][None])[0]
        if np.abs(kinematics.forward(higher) - goal).max() > _APART:
            break
        rise.append(higher)
    return np.array(rise)


def _line_home(kinematics: Kinematics, joints: Array) -> Array:
    """Returns joint positions ``[M, J]`` along the straight line home."""
    return np.linspace(joints, kinematics.embodiment.home_positions, _SAMPLES)


def _heights(kinematics: Kinematics, joints: Array, up: Array) -> Array:
    """Returns how high the tool is ``[...]`` at joint positions ``[..., J]`` [m]."""
    return np.asarray(kinematics.forward(joints)[..., :3, 3] @ up)


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
