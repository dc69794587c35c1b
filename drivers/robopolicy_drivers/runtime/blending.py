"""How the rows that several chunks have for one control step become one action."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError
from robopolicy_drivers.runtime.spaces import FeatureSpace

Array = NDArray[np.float64]


class Blending(Protocol):
    """Blends the rows for one control step."""

    def __call__(self, actions: Array, ages: NDArray[np.int64]) -> Array:
        """Returns the action ``[A]``.

        Args:
            actions: ``[N, A]``, the row of the newest observation first.
            ages: control steps since the observation behind each row ``[N]``.
        """


def newest_wins(actions: Array, ages: NDArray[np.int64]) -> Array:
    """Returns the row of the newest observation, the first of ``actions [N, A]``."""
    return actions[0]


class TemporalEnsembling:
    """The mean of all rows, weighted by ``exp(-decay * age)`` (Zhao et al. 2023), of rotations on the group.

    Args:
        space: of the action.
        decay: per control step; above 0 newer rows weigh more. ACT's own code counts from the oldest row,
            which is ``decay=-0.01``.
    """

    def __init__(self, space: FeatureSpace, decay: float = 0.01) -> None:
        if not math.isfinite(decay):
            raise ConfigError(f"The decay of temporal ensembling is {decay}; give a finite number.")
        self.space = space
        self.decay = decay

    def __call__(self, actions: Array, ages: NDArray[np.int64]) -> Array:
        """Returns the weighted mean of ``actions [N, A]``."""
        if len(actions) == 1:
            return actions[0]
        return self.space.mean(actions, np.exp(-self.decay * (ages - ages[0])))


BLENDINGS: Mapping[str, Callable[[FeatureSpace], Blending]] = {
    "newest": lambda _: newest_wins,
    "ensemble": TemporalEnsembling,
}
"""By the name that a setting gives."""
