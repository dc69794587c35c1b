"""A small motion away from where the device is and back, made for measuring delays.

Its frequency rises (a chirp), so only one delay fits it; it begins and ends at rest; and it stays on one side
of where it begins, so that a person can choose the free side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy_datasets.errors import ConfigError

SWEEP = 3.0  # the last frequency over the first one


@dataclass(frozen=True)
class ProbeMotion:
    """See the module text.

    Attributes:
        amplitude: the farthest displacement, with its sign [m or rad].
        seconds: from the beginning to the end [s].
        cycles: how often it goes there and back.
    """

    amplitude: float = 0.02
    seconds: float = 4.0
    cycles: int = 4

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and self.cycles >= 1 and math.isfinite(self.amplitude) and self.amplitude):
            raise ConfigError(
                f"{self} is no motion: the amplitude is not 0, seconds is above 0 and cycles at least 1."
            )

    @property
    def peak_speed(self) -> float:
        """A bound of the speed [m/s or rad/s]."""
        return math.pi * self._frequencies[1] * abs(self.amplitude)

    def displacement(self, time: ArrayLike) -> NDArray[np.float64]:
        """Returns the displacement [m or rad] at times [s] since the beginning; 0 before and after."""
        first, last = self._frequencies
        inside = np.clip(np.asarray(time, np.float64), 0.0, self.seconds)
        phase = first * inside + 0.5 * (last - first) * inside**2 / self.seconds
        return np.asarray(0.5 * self.amplitude * (1.0 - np.cos(2 * math.pi * phase)), np.float64)

    @property
    def _frequencies(self) -> tuple[float, float]:
        """First and last frequency [Hz]; their mean makes ``cycles`` whole cycles."""
        first = 2.0 * self.cycles / self.seconds / (1.0 + SWEEP)
        return first, SWEEP * first
