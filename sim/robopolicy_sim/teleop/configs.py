"""Configs of teleoperation in simulation; this module imports neither mujoco nor pygame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass
class KeyboardConfig:
    """Demonstrations by a person with keyboard and mouse, in a window that shows the task.

    Attributes:
        speed: of the tool along each axis while a key is held [m/s]; with Shift, a fifth of it.
        turn_speed: of the tool about each axis while a key is held [rad/s]; with Shift, a fifth of it.
    """

    target: ClassVar[str] = "robopolicy_sim.teleop.keyboard:collect"

    speed: float = 0.15
    turn_speed: float = 0.8
