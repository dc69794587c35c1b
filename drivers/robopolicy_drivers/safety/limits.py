"""The limits of the safety gate, and what it does where one is exceeded."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy_datasets.errors import ConfigError
from robopolicy_drivers.embodiments import Embodiment


class Mode(StrEnum):
    """What the gate does where a limit is exceeded."""

    OFF = "off"
    """Nothing."""
    WARN = "warn"
    """It is noted, and sent all the same."""
    CLIP = "clip"
    """It is noted, and what is sent stays within the limit."""
    STOP = "stop"
    """It is noted, the robot brakes, and the stop latches."""


@dataclass
class SafetyConfig:
    """Settings of a gate. All limits are enforced by default.

    Raises ``ConfigError`` for unknown modes and numbers that are not positive.

    Attributes:
        position: of position limits (a vehicle's geofence): off, warn, clip or stop, like all modes here.
        velocity: of velocity limits.
        acceleration: of acceleration limits.
        jerk: of jerk limits, which give way to all others.
        workspace: of the box that the tool stays in; clip brakes at its walls.
        force: of the force limit.
        tilt: of a vehicle's tilt limit.
        step: of the largest step from what was commanded before to a new target; clip shortens it.
        step_m: the largest step of a target's position [m].
        step_rad: the largest step of a target's rotation [rad].
        speed_m: the largest speed of a planned motion [m/s].
        speed_rad: the largest speed of a planned rotation [rad/s].
        stale_command_s: time without a command after which the robot brakes and holds [s]; it goes on with
            the next one.
        stale_state_s: age of the device's state at which the stop latches [s].
    """

    position: str = Mode.CLIP
    velocity: str = Mode.CLIP
    acceleration: str = Mode.CLIP
    jerk: str = Mode.CLIP
    workspace: str = Mode.CLIP
    force: str = Mode.STOP
    tilt: str = Mode.STOP
    step: str = Mode.STOP
    step_m: float = 0.5
    step_rad: float = 2.0
    speed_m: float = 1.5
    speed_rad: float = 6.0
    stale_command_s: float = 0.5
    stale_state_s: float = 0.2

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(item.default, Mode):
                setattr(self, item.name, _mode(item.name, value))
            elif not value > 0:
                raise ConfigError(f"{item.name} is {value}; give a number above 0.")


def _mode(name: str, value: str) -> Mode:
    try:
        return Mode(value)
    except ValueError:
        raise ConfigError(f"The mode of '{name}' is '{value}'. Allowed: {', '.join(Mode)}.") from None


@dataclass(frozen=True)
class MotionLimits:
    """Limits of A coordinates, such as joints; infinite where there is none.

    Raises ``ConfigError`` where they do not fit together.

    Attributes:
        lower, upper: lowest and highest position ``[A]``.
        velocity: largest speed ``[A]`` [unit/s].
        acceleration: ``[A]`` [unit/s^2].
        jerk: ``[A]`` [unit/s^3].
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    velocity: NDArray[np.float64]
    acceleration: NDArray[np.float64]
    jerk: NDArray[np.float64]

    def __post_init__(self) -> None:
        shape = np.shape(self.lower)
        for item in fields(self):
            values = np.array(getattr(self, item.name), np.float64)
            if values.ndim != 1 or values.shape != shape or np.isnan(values).any():
                raise ConfigError(
                    f"The limit '{item.name}' is {values.tolist()}; {list(shape)} numbers are needed, as for "
                    "'lower'."
                )
            object.__setattr__(self, item.name, values)
        if not (self.lower <= self.upper).all():
            raise ConfigError(f"Lower limits {self.lower} lie above the upper ones {self.upper}.")
        if min(self.velocity.min(), self.acceleration.min(), self.jerk.min()) <= 0:
            raise ConfigError("Limits of velocity, acceleration and jerk must be above 0.")

    @classmethod
    def of_joints(cls, embodiment: Embodiment, jerk: ArrayLike = np.inf) -> MotionLimits:
        """Returns the limits of an embodiment's joints.

        Args:
            embodiment: the arm.
            jerk: of all joints or of each ``[J]`` [rad/s^3].
        """
        lower, upper = embodiment.position_limits.T
        return cls(
            lower,
            upper,
            embodiment.velocity_limits,
            embodiment.acceleration_limits,
            np.broadcast_to(jerk, lower.shape),
        )
