"""Park: brings a robot to a pose, slowly, from where it was last commanded to be."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy_datasets.clock import seconds_to_ns
from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_drivers.interfaces import Robot
from robopolicy_drivers.realtime.loop import DeadlineLoop
from robopolicy_drivers.runtime.spaces import FeatureSpace

RATE_HZ = 20.0


def park(
    robot: Robot, start: ArrayLike, goal: ArrayLike, *, speed_m: float = 0.1, speed_rad: float = 0.5
) -> NDArray[np.float64]:
    """Moves a robot straight to ``goal`` at a bounded speed; returns when its last target is sent.

    The way begins at the last *commanded* target, not at the measured state: a robot that presses on
    something, or sags, would jump otherwise. A stop ends it: the robot then brakes and refuses every
    further target.

    Args:
        robot: connected.
        start: the last commanded target ``[A]``, e.g. ``report.last_target`` of an episode.
        goal: where to park ``[A]``.
        speed_m: of each position [m/s].
        speed_rad: of each rotation, angle and joint [rad/s].

    Returns:
        the last target that was really sent ``[A]``.

    Raises:
        DeviceError: the robot was stopped or fails.
        SpecError: start or goal has another size than the robot's action, or is not finite.
        ConfigError: a speed is not above 0.
    """
    if not (speed_m > 0 and speed_rad > 0):
        raise ConfigError(f"speed_m is {speed_m} and speed_rad is {speed_rad}; give speeds above 0.")
    space = FeatureSpace(robot.spec.action)
    begin, end = (_checked(value, name, space.size) for name, value in (("start", start), ("goal", goal)))
    metres, radians = space.lengths(space.difference(begin, end))
    steps = max(1, math.ceil(max(metres / speed_m, radians / speed_rad) * RATE_HZ))
    loop = DeadlineLoop(RATE_HZ)
    sent = begin
    for step in range(1, steps + 1):  # one by one, however late: the speed stays bounded
        loop.wait()
        target = space.between(begin, end, step / steps) if step < steps else end
        sent = np.array(robot.command(target, loop.deadline_ns + seconds_to_ns(1 / RATE_HZ)), np.float64)
    return sent


def _checked(value: ArrayLike, name: str, size: int) -> NDArray[np.float64]:
    target = np.array(value, np.float64)
    if target.shape != (size,) or not np.isfinite(target).all():
        raise SpecError(f"The {name} is {target.tolist()}; the robot's action is {size} finite numbers.")
    return target
