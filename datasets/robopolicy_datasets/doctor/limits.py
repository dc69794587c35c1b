"""The limits beyond which a check speaks up."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from robopolicy_datasets.errors import ConfigError


@dataclass
class Limits:
    """Limits of the checks. The defaults are silent on sound human demonstrations.

    Raises ``ConfigError`` where a limit is not a positive number.

    Attributes:
        gap_periods: periods of the store's rate between two steps, from which on it is a gap.
        rate_share: how far the median time between steps may be from the period, as a share of it.
        stream_share: share of an episode's time that the samples of a stream cover at least.
        frozen_seconds: how long images may be identical while the robot moves [s].
        frozen_motion: how far a value must move meanwhile, as a share of its range in the store.
        dark_level: mean brightness up to which an image is black, as a share of full brightness.
        saturated_pixels: share of an image's values at full brightness, from which on it is saturated.
        saturated_frames: share of a store's images that may be saturated.
        jump_share: step of an action, as a share of its range in the store (of pi for a rotation).
        jump_deviations: how many robust standard deviations of its episode's steps a jump is at least.
        angle_rad: largest plausible angle [rad]; two turns.
        position_m: largest plausible coordinate [m] that 99 % of the values stay below.
        width_m: largest plausible opening of a gripper [m].
        length_factor: how many times shorter or longer than the median an episode may be.
        length_deviations: and how many robust standard deviations of the logarithm of the length.
    """

    gap_periods: float = 1.5
    rate_share: float = 0.1
    stream_share: float = 0.9
    frozen_seconds: float = 1.0
    frozen_motion: float = 0.02
    dark_level: float = 0.01
    saturated_pixels: float = 0.97
    saturated_frames: float = 0.5
    jump_share: float = 0.4
    jump_deviations: float = 10.0
    angle_rad: float = 12.57
    position_m: float = 20.0
    width_m: float = 0.5
    length_factor: float = 3.0
    length_deviations: float = 4.0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"The limit {item.name} is {value}; give a positive number.")
