"""Typed settings of the safety gate. Imports no numpy."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum

from robopolicy_datasets.errors import ConfigError


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
        position: of position limits (of a vehicle's set points: its geofence): off, warn, clip or stop, like
            all modes here.
        velocity: of velocity limits.
        acceleration: of acceleration limits.
        jerk: of jerk limits, which give way to all others.
        workspace: of the box that the tool stays in; clip brakes at its walls.
        force: of the force limit.
        tilt: of a vehicle's tilt limit.
        geofence: of the box that a vehicle is measured to be in.
        step: of the largest step to a target from the one before it in time, or from what is commanded now
            where there is none; clip shortens it.
        step_m: the largest step of a target's position [m].
        step_rad: the largest step of a target's rotation [rad].
        speed_m: the largest speed of a planned motion [m/s].
        speed_rad: the largest speed of a planned rotation [rad/s].
        acceleration_m: the largest acceleration of a planned motion [m/s^2].
        acceleration_rad: the largest angular acceleration of a planned rotation [rad/s^2].
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
    geofence: str = Mode.STOP
    step: str = Mode.STOP
    step_m: float = 0.5
    step_rad: float = 2.0
    speed_m: float = 1.5
    speed_rad: float = 6.0
    acceleration_m: float = 3.0
    acceleration_rad: float = 15.0
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
