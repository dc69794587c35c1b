"""The safety gate: the last word on every set point, in the process that owns the device.

At every control tick it takes the set point that the controller wants and returns the one that is sent. It
knows what it sent before, so that position, velocity, acceleration and jerk are those of the device's set
points and not of somebody's intentions. Where limits contradict each other, the first of this list wins:
position, velocity, acceleration, jerk. What it holds back is caught up with later.

A stop latches: the robot brakes within its limits, stays, and takes no command until the stop is released.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy_datasets.clock import ns_to_seconds, seconds_to_ns
from robopolicy_datasets.errors import ConfigError, DeviceError
from robopolicy_drivers.safety.checks import Check, Measured
from robopolicy_drivers.safety.configs import Mode, SafetyConfig
from robopolicy_drivers.safety.limits import MotionLimits
from robopolicy_drivers.safety.log import SafetyLog

_TOLERANCE = 1e-6
_MOVING_SHARE = 1e-3  # of the velocity limit, from which on a device counts as moving
_ORDER = ("position", "velocity", "acceleration", "jerk")  # the strongest first
_DAMPING = 8.0


class SafetyGate:
    """See the module text. It belongs to one control loop.

    Args:
        start: where the device stands, the first set point ``[A]``.
        limits: of the set points.
        period_s: time between two ticks [s].
        config: what to do where a limit is exceeded.
        checks: further limits; each has its mode in ``config`` under its name.

    Attributes:
        sent: the set point that was sent last ``[A]``.
        velocity: its velocity ``[A]`` [unit/s].
        stopped: why the stop has latched; empty while it has not.
        holding: whether the last tick braked instead of following; the plan should begin anew at ``sent``.
        silenced: whether commands have stayed away for too long; until the next one.
        log: what the gate did.
    """

    def __init__(
        self,
        start: ArrayLike,
        limits: MotionLimits,
        *,
        period_s: float,
        config: SafetyConfig | None = None,
        checks: Sequence[Check] = (),
    ) -> None:
        self.sent = np.array(start, np.float64)
        if (
            self.sent.shape != limits.lower.shape or not np.isfinite(self.sent).all() or not period_s > 0
        ):  # a start that is not finite would be sent for ever
            raise ConfigError(
                f"A gate for {len(limits.lower)} coordinates starts at {self.sent.tolist()} with a period of "
                f"{period_s} s; give as many finite numbers, and a period above 0 s."
            )
        self.velocity = np.zeros_like(self.sent)
        self.stopped = ""
        self.holding = self.silenced = False
        self.log = SafetyLog()
        self.config = config or SafetyConfig()
        self._limits, self._period_s = limits, period_s
        self._checks = [(check, Mode(getattr(self.config, check.name))) for check in checks]
        self._braking = (  # a robot that may accelerate beyond its limit brakes within it all the same
            np.full_like(limits.acceleration, np.inf)
            if Mode(self.config.acceleration) is Mode.OFF
            else limits.acceleration
        )
        self._jerk = _enforced(limits.jerk, Mode(self.config.jerk))
        self._enforced_rows = [
            row for row, name in enumerate(_ORDER) if _enforces(Mode(getattr(self.config, name)))
        ]
        self._acceleration = np.zeros_like(self.sent)
        self._wanted = self.sent.copy()
        self._wish = self.velocity, self._acceleration  # velocity and acceleration of what was wanted
        self._rest_excess = {  # where the device comes to rest; it may be outside at first
            check.name: check.excess(self.sent, {})
            for check, _ in self._checks
            if check.name in _OF_SET_POINTS
        }
        self._commanded_ns: int | None = None
        self._frozen_since_ns: int | None = None
        self._measured_position: NDArray[np.floating] | None = None

    def commanded(self, now_ns: int) -> None:
        """Notes that a command has come: the watchdog of commands begins anew.

        Raises:
            DeviceError: the stop has latched.
        """
        if self.stopped:
            reason = self.stopped.removesuffix(".")
            raise DeviceError(
                f"The robot was stopped: {reason}. Nothing is commanded until the stop is released."
            )
        self._commanded_ns, self.silenced = now_ns, False

    def stop(self, reason: str, now_ns: int) -> None:
        """Latches the stop; the first reason is kept."""
        if not self.stopped:
            self.stopped = reason
            self.log.note("stop", Mode.STOP, now_ns, reason)

    def release(self) -> None:
        """Releases the stop; the robot stays where it is until it is commanded."""
        self.stopped = ""
        self._wanted, self._commanded_ns, self.silenced = self.sent.copy(), None, False
        self._frozen_since_ns = None

    def allows(self, set_points: NDArray[np.float64]) -> bool:
        """Returns whether the checks of set points let the device rest at all of some ``[N, A]``."""
        return not any(
            check.excess(set_point, {}) > _TOLERANCE
            for check, mode in self._checks
            if check.name in _OF_SET_POINTS and _enforces(mode)
            for set_point in set_points
        )

    def filter(
        self,
        wanted: ArrayLike,
        now_ns: int,
        *,
        state_ns: int | None = None,
        position: NDArray[np.floating] | None = None,
        measured: Measured | None = None,
    ) -> NDArray[np.float64]:
        """Returns the set point to send at this tick.

        Args:
            wanted: by the controller ``[A]``.
            now_ns: of the tick [ns, monotonic].
            state_ns: when the device's state was measured [ns, monotonic].
            position: the measured position ``[A]``.
            measured: what the checks look at, by key.

        Returns:
            ``[A]``, within the limits; kept in ``sent`` too.
        """
        target = np.asarray(wanted, np.float64)
        self._watch(target, now_ns, state_ns, position, measured or {})
        comes_to_rest = self.holding and self.velocity.any()  # once it brakes, it does so along its path
        stale = self._stale(now_ns)
        self.holding = bool(self.stopped) or self._exceeded or stale or bool(comes_to_rest)
        lowest, highest = self._intervals()
        if not self.holding:
            feed_forward = (target - self._wanted) / self._period_s
            velocity = feed_forward + self._catching_up(self._wanted - self.sent)
            self._note_excess(target, feed_forward, now_ns)
            velocity = self._limited(velocity, lowest, highest)
            self.holding = bool(self.stopped) or not self._rests_within(velocity, now_ns)
        if self.holding:
            velocity = self._limited(self._braked(), lowest, highest)
        self._acceleration = (velocity - self.velocity) / self._period_s
        self.velocity = velocity
        self.sent = self.sent + velocity * self._period_s
        self._wanted = self.sent if self.holding else target.copy()
        if self.holding:
            self._wish = self.velocity, self._acceleration
        return self.sent.copy()

    def _braked(self) -> NDArray[np.float64]:
        """Returns a smaller velocity of the same direction, so that braking does not leave the path."""
        speed = np.abs(self.velocity)
        if not speed.any():
            return self.velocity
        with np.errstate(divide="ignore", over="ignore"):
            share = float(np.min(self._braking * self._period_s / speed))
        return self.velocity * max(0.0, 1.0 - share)

    def _catching_up(self, lag: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the velocity that brings the set point to what is wanted, and to rest there."""
        distance = np.abs(lag)
        if not distance.any():
            return distance
        speed = stopping_speed(distance, self._braking, self._period_s)
        return np.sign(lag) * np.minimum(speed, gentle_speed(distance, self._limits.acceleration, self._jerk))

    def _stale(self, now_ns: int) -> bool:
        if self._commanded_ns is None:
            return False
        age_s, allowed_s = ns_to_seconds(now_ns - self._commanded_ns), self.config.stale_command_s
        if age_s <= allowed_s or not (self.silenced or self.velocity.any()):
            return False
        self.silenced = True  # until the next command
        text = f"no command for {age_s:.2f} s (allowed: {allowed_s:g} s); the robot brakes and holds"
        self.log.note("stale_command", Mode.CLIP, now_ns, text, age_s / allowed_s - 1)
        return True

    def _watch(
        self,
        target: NDArray[np.float64],
        now_ns: int,
        state_ns: int | None,
        position: NDArray[np.floating] | None,
        measured: Measured,
    ) -> None:
        """Stops over what must not be: set points or states that are not finite, old or frozen states."""
        self._exceeded = False
        if target.shape != self.sent.shape or not np.isfinite(target).all():
            self.stop(f"the controller wants the set point {target.tolist()}, which is not possible", now_ns)
        broken = [key for key, values in measured.items() if not np.isfinite(values).all()]
        if broken or (position is not None and not np.isfinite(position).all()):
            self.stop(f"the measured state is not finite ({', '.join(broken) or 'position'})", now_ns)
            return
        if state_ns is not None and now_ns - state_ns > seconds_to_ns(self.config.stale_state_s):
            age_s, allowed_s = ns_to_seconds(now_ns - state_ns), self.config.stale_state_s
            self.stop(f"the newest state is {age_s:.3f} s old (allowed: {allowed_s:g} s)", now_ns)
        if position is not None:
            self._watch_for_a_frozen_state(position, now_ns)
        for check, mode in self._checks:
            if check.name not in _OF_SET_POINTS and mode is not Mode.OFF:
                self._judge(check, mode, check.excess(self.sent, measured), now_ns)

    def _watch_for_a_frozen_state(self, position: NDArray[np.floating], now_ns: int) -> None:
        moving = (np.abs(self.velocity) > _MOVING_SHARE * self._limits.velocity).any()
        same = self._measured_position is not None and np.array_equal(position, self._measured_position)
        self._measured_position = position.copy()
        if not (moving and same):
            self._frozen_since_ns = None
            return
        if self._frozen_since_ns is None:
            self._frozen_since_ns = now_ns
        frozen_s = ns_to_seconds(now_ns - self._frozen_since_ns)
        if frozen_s > self.config.stale_state_s:
            self.stop(f"the measured position has not changed for {frozen_s:.3f} s while moving", now_ns)

    def _judge(self, check: Check, mode: Mode, excess: float, now_ns: int) -> None:
        if excess > 0:
            text = f"{check.describe()}; exceeded by {excess:.3g}"
            self.log.note(check.name, mode, now_ns, text, excess)
            if mode is Mode.STOP:
                self.stop(text, now_ns)
            self._exceeded |= mode is Mode.CLIP

    def _rests_within(self, velocity: NDArray[np.float64], now_ns: int) -> bool:
        """Whether the robot, braking after this tick, comes to rest within the limits on set points.

        Where it is outside already, it may go back in.
        """
        duration_s = float(np.max(np.abs(velocity) / self._braking))  # of braking in one direction
        rest = self.sent + velocity * (self._period_s + 0.5 * duration_s)
        within, found = True, {}
        for check, mode in self._checks:
            if check.name not in _OF_SET_POINTS or mode is Mode.OFF:
                continue
            excess = found[check.name] = check.excess(rest, {})
            if excess > max(0.0, self._rest_excess.get(check.name, 0.0)) + _TOLERANCE:
                text = f"{check.describe()}; the set point would exceed it by {excess:.3g}"
                self.log.note(check.name, mode, now_ns, text, excess)
                if mode is Mode.STOP:
                    self.stop(text, now_ns)
                within &= mode is Mode.WARN
        if within:
            self._rest_excess = found
        return within

    def _intervals(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns the lowest and the highest velocities ``[4, A]`` that each of ``_ORDER`` allows now."""
        limits, period_s = self._limits, self._period_s
        slower, jerked = limits.acceleration * period_s, limits.jerk * period_s**2
        room = np.maximum([self.sent - limits.lower, limits.upper - self.sent], 0.0)
        below, above = stopping_speed(room, self._braking, period_s)
        # The jerk limit looks ahead: to the end of the room, and to the velocity limit, where acceleration
        # must have ended.
        steady = self.velocity + self._acceleration * period_s
        gentle = gentle_speed(room, limits.acceleration, self._jerk)
        spare = np.maximum([limits.velocity + self.velocity, limits.velocity - self.velocity], 0.0)
        change = period_s * _ramp_acceleration(spare, limits.acceleration, self._jerk, period_s)
        slowest, fastest = steady - jerked, steady + jerked
        lowest = [
            -below,
            -limits.velocity,
            self.velocity - slower,
            np.clip(np.maximum(-gentle[0], self.velocity - change[0]), slowest, fastest),
        ]
        highest = [
            above,
            limits.velocity,
            self.velocity + slower,
            np.clip(np.minimum(gentle[1], self.velocity + change[1]), slowest, fastest),
        ]
        return np.array(lowest), np.array(highest)

    def _limited(
        self, velocity: NDArray[np.float64], lowest: NDArray[np.float64], highest: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Returns the velocity nearest to the given one that the enforced limits allow."""
        low, high = np.full_like(velocity, -np.inf), np.full_like(velocity, np.inf)
        for row in self._enforced_rows:
            low, high = (np.minimum(np.maximum(end[row], low), high) for end in (lowest, highest))
        return np.minimum(np.maximum(velocity, low), high)

    def _note_excess(self, wanted: NDArray[np.float64], velocity: NDArray[np.float64], now_ns: int) -> None:
        """Notes the limits that the wanted motion exceeds; stops where their mode says so.

        Args:
            wanted: set point ``[A]``.
            velocity: with which it moves ``[A]``.
            now_ns: the time [ns, monotonic].
        """
        limits = self._limits
        acceleration = (velocity - self._wish[0]) / self._period_s
        jerk = (acceleration - self._wish[1]) / self._period_s
        self._wish = velocity, acceleration
        position = np.maximum(limits.lower - wanted, wanted - limits.upper)
        beyond = np.array(
            [
                position,
                np.abs(velocity) - limits.velocity,
                np.abs(acceleration) - limits.acceleration,
                np.abs(jerk) - limits.jerk,
            ]
        )
        for row in np.flatnonzero(beyond.max(axis=1) > _TOLERANCE).tolist():
            name = _ORDER[row]
            mode = Mode(getattr(self.config, name))
            worst = int(np.argmax(beyond[row]))
            if mode is not Mode.OFF:
                excess = float(beyond[row, worst])
                text = f"the {name} of coordinate {worst} is to be {excess:.3g} beyond its limit"
                self.log.note(name, mode, now_ns, text, excess)
                if mode is Mode.STOP:
                    self.stop(text, now_ns)


_OF_SET_POINTS = ("workspace",)  # checks of where the device will rest; the others look at what is measured


def stopping_speed(
    distance: NDArray[np.float64], deceleration: NDArray[np.float64], period_s: float
) -> NDArray[np.float64]:
    """Returns the largest speed ``[A]`` from which set points come to rest within a distance.

    In ticks of one period, the first of which still moves at that speed and each further one is slower by at
    most ``deceleration * period_s``.

    Args:
        distance: ``[A]``, not negative.
        deceleration: ``[A]`` [unit/s^2]; infinite ones stop within one tick.
        period_s: of a tick [s].
    """
    step = deceleration * period_s**2
    with np.errstate(invalid="ignore"):
        ticks = np.ceil(0.5 * (np.sqrt(1.0 + 8.0 * distance / step) - 1.0) - 1e-9)
        ticks = np.maximum(ticks, 1.0)
        later = np.where(ticks > 1.0, 0.5 * deceleration * period_s * (ticks - 1.0), 0.0)
        return np.where(np.isinf(distance), np.inf, distance / (ticks * period_s) + later)


def gentle_speed(
    distance: NDArray[np.float64], deceleration: NDArray[np.float64], jerk: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns the largest speed ``[A]`` to come to rest within a distance where braking begins gradually.

    From ``v^2 / 2a + v a / 2j = d``; near the end in proportion to the distance, so that nothing swings.

    Args:
        distance: ``[A]``, not negative.
        deceleration: ``[A]`` [unit/s^2].
        jerk: ``[A]`` [unit/s^3]; an infinite one asks for no gentleness.
    """
    if not np.isfinite(jerk).any():
        return np.full_like(distance, np.inf)
    ramp = 0.5 * deceleration**2 / jerk
    with np.errstate(invalid="ignore"):
        curve = np.sqrt(ramp**2 + 2 * deceleration * distance) - ramp
        gentle = np.minimum(curve, distance * jerk / (_DAMPING * deceleration))
    return np.where(np.isfinite(deceleration), gentle, np.inf)


def _ramp_acceleration(
    spare: NDArray[np.float64], limit: NDArray[np.float64], jerk: NDArray[np.float64], period_s: float
) -> NDArray[np.float64]:
    """Returns the largest acceleration that can end before the spare velocity is used up; infinite without
    a jerk limit.
    """
    with np.errstate(invalid="ignore"):
        largest = jerk * (np.sqrt(period_s**2 + 2 * spare / jerk) - period_s)
    return np.where(np.isfinite(jerk), np.minimum(limit, largest), np.inf)


def _enforced(limit: NDArray[np.float64], mode: Mode) -> NDArray[np.float64]:
    return limit if _enforces(mode) else np.full_like(limit, np.inf)


def _enforces(mode: Mode) -> bool:
    return mode in (Mode.CLIP, Mode.STOP)
