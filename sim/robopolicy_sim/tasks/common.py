"""What all tasks share."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.spec import Feature


def feature_space(feature: Feature) -> spaces.Box:
    """Returns the Gymnasium space of a feature; what is measured may be anywhere: no bounds."""
    if feature.is_image:
        return spaces.Box(0, 255, feature.shape, np.uint8)
    return spaces.Box(-np.inf, np.inf, feature.shape, np.float32)


def checked_max_steps(max_steps: int) -> int:
    """Returns the number of control steps until an episode is truncated.

    Raises:
        ConfigError: it is below 1.
    """
    if max_steps < 1:
        raise ConfigError(f"task.max_steps is {max_steps}; give at least 1.")
    return max_steps
