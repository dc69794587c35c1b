"""Statistics of trials."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Returns the Wilson score interval of a success rate (95 % by default); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    rate = successes / trials
    centre = rate + z * z / (2 * trials)
    spread = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def difference_interval(one: tuple[int, int], other: tuple[int, int]) -> tuple[float, float]:
    """Returns the 95 % interval of the difference of two success rates, the first less the second.

    Newcombe's hybrid score interval: Statistics in Medicine 17 (1998), method 10.

    Args:
        one: successes and trials.
        other: likewise.
    """
    rates = [successes / trials if trials else 0.0 for successes, trials in (one, other)]
    (low, high), (other_low, other_high) = (wilson_interval(*counts) for counts in (one, other))
    difference = rates[0] - rates[1]
    down = math.hypot(rates[0] - low, other_high - rates[1])
    up = math.hypot(high - rates[0], rates[1] - other_low)
    return max(-1.0, difference - down), min(1.0, difference + up)


def paired_p_value(only_one: int, only_other: int) -> float:
    """Returns how likely pairs of trials differ so often, and more, by chance alone (exact McNemar test).

    Args:
        only_one: pairs in which only the first succeeded.
        only_other: pairs in which only the second did.
    """
    pairs = only_one + only_other
    tail = sum(math.comb(pairs, count) for count in range(min(only_one, only_other) + 1))
    return min(1.0, 2.0 * tail / 2**pairs)


def mean_interval(values: Sequence[float], z: float = 1.959964) -> tuple[float, float]:
    """Returns the normal interval of a mean (95 % by default)."""
    array = np.asarray(values, dtype=np.float64)
    error = z * array.std(ddof=1) / math.sqrt(len(array)) if len(array) > 1 else 0.0
    return float(array.mean() - error), float(array.mean() + error)
