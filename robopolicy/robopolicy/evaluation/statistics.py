"""Statistics of trials."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Returns the Wilson score interval of a success rate (95 % by default); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    rate = successes / trials
    centre = rate + z * z / (2 * trials)
    spread = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def paired_difference_interval(
    both: int, only_one: int, only_other: int, neither: int
) -> tuple[float, float]:
    """Returns the 95 % interval of the difference of two success rates in the same trials, first less second.

    Newcombe's hybrid score interval for paired data: Statistics in Medicine 17 (1998) 2635, method 10. It
    is (-1, 1) without trials.

    Args:
        both: pairs in which both succeeded.
        only_one: pairs in which only the first did.
        only_other: pairs in which only the second did.
        neither: pairs in which none did.
    """
    pairs = both + only_one + only_other + neither
    if pairs == 0:
        return -1.0, 1.0
    wins = both + only_one, both + only_other
    rate, other = (successes / pairs for successes in wins)
    (low, high), (other_low, other_high) = (wilson_interval(successes, pairs) for successes in wins)
    together = float(both * neither - only_one * only_other)
    if together > 0:
        together = max(together - pairs / 2, 0.0)  # a correction for continuity
    spread = math.sqrt(math.prod(wins) * (pairs - wins[0]) * (pairs - wins[1]))
    correlation = together / spread if spread else 0.0

    def hypotenuse(one: float, two: float) -> float:
        return math.sqrt(one * one - 2 * correlation * one * two + two * two)

    down, up = hypotenuse(rate - low, other_high - other), hypotenuse(high - rate, other - other_low)
    return max(-1.0, rate - other - down), min(1.0, rate - other + up)


def paired_p_value(only_one: int, only_other: int) -> float:
    """Returns how likely pairs of trials differ so often, and more, by chance alone (exact McNemar test).

    Args:
        only_one: pairs in which only the first succeeded.
        only_other: pairs in which only the second did.
    """
    pairs = only_one + only_other
    tail = sum(math.comb(pairs, count) for count in range(min(only_one, only_other) + 1))
    return min(1.0, 2.0 * tail / 2**pairs)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Returns the 95 % interval of a mean by Student's t; of a single value, which has none, that value."""
    array = np.asarray(values, dtype=np.float64)
    count = len(array)
    error = stdtrit(count - 1, 0.975) * array.std(ddof=1) / math.sqrt(count) if count > 1 else 0.0
    return float(array.mean() - error), float(array.mean() + error)
