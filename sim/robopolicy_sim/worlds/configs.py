"""Configs of worlds; this module imports neither mujoco nor gymnasium."""

from __future__ import annotations

from dataclasses import dataclass

from robopolicy_datasets.errors import ConfigError


@dataclass
class DisturbanceConfig:
    """What makes a simulated episode harder. Everything is off by default.

    Attributes:
        force: largest force along each axis of the world that wanders over the robot, as in UMI-on-Air: at a
            flying base, else at the hand [N]. UMI-on-Air's: peg 10, pick-and-place 8, cabinet 8, valve 4.
        drift: standard deviation of a slowly wandering error of the measured positions [m].
        delay_steps: control steps that actions arrive late.
        camera_jitter: standard deviation of each camera's turn about each axis, new for each image [rad].

    Raises:
        ConfigError: a number is negative.
    """

    force: float = 0.0
    drift: float = 0.0
    delay_steps: int = 0
    camera_jitter: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= 0:
                raise ConfigError(f"disturbance.{name} is {value}; give 0 (none) or more.")
