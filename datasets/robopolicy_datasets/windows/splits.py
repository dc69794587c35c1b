"""Episodes for training and episodes that are held out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError


def split_episodes(
    num_episodes: int, *, validation_fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Splits episodes at random into those for training and those held out.

    Args:
        num_episodes: how many there are.
        validation_fraction: the share to hold out, in [0, 1); above 0 at least one episode is held out and
            one remains, where there are two.
        seed: of the choice.

    Returns:
        The training and the validation indices, each sorted.

    Raises:
        ConfigError: the fraction is out of range.
    """
    if not 0 <= validation_fraction < 1:
        raise ConfigError(f"validation_fraction is {validation_fraction}; it must be at least 0 and below 1.")
    held_out = 0
    if validation_fraction > 0 and num_episodes > 1:
        held_out = int(np.clip(round(validation_fraction * num_episodes), 1, num_episodes - 1))
    order = np.random.default_rng(seed).permutation(num_episodes).astype(np.int64)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
