"""How far a sampled chunk follows the observation: the bound of N Euler steps, the noise being the same.

Two samplings from one noise, for observations that differ by Delta, are apart by e_k after k steps; e_0 = 0.
A step of the straight path goes the share ``eta_k = 1 / (N - k)`` of the way to the estimate of the clean
chunk, so with an estimate that moves by at most ``point`` per unit of the noisy chunk and ``observation`` per
unit of the observation

    e_{k+1} <= (1 - eta_k + eta_k point_k) e_k + eta_k observation_k Delta.

The point's gain at the first step multiplies e_0 = 0: there the noise may decide anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robopolicy_datasets.errors import ConfigError


@dataclass(frozen=True)
class StepGain:
    """Lipschitz constants (l2) of one step's estimate of the clean chunk.

    Attributes:
        observation: to a change of the observation.
        point: to a change of the noisy chunk.
    """

    observation: float
    point: float


def euler_bounds(gains: Sequence[StepGain]) -> list[float]:
    """Returns the bounds e_1 ... e_N after each of N evenly spaced Euler steps, for Delta = 1.

    Args:
        gains: of the estimates, in the order of the steps.

    Raises:
        ConfigError: there is no step, or a gain is negative.
    """
    if not gains or any(min(gain.observation, gain.point) < 0 for gain in gains):
        raise ConfigError(f"The gains of the steps are {list(gains)}; give one or more, none negative.")
    bounds, apart = [], 0.0
    for step, gain in enumerate(gains):
        share = 1 / (len(gains) - step)
        apart = (1 - share + share * gain.point) * apart + share * gain.observation
        bounds.append(apart)
    return bounds


def rows_bound(gains: Sequence[StepGain], rows: Sequence[StepGain]) -> float:
    """Returns the bound of some rows of the sampled chunk, such as those of one action number.

    Args:
        gains: of the whole estimates.
        rows: of those rows of the estimates.

    Raises:
        ConfigError: a gain is negative, or not one of rows is there for each step.
    """
    if len(rows) != len(gains):
        raise ConfigError(f"There are gains of {len(gains)} steps, and of rows for {len(rows)}.")
    whole, apart = 0.0, 0.0
    for step, (gain, after) in enumerate(zip(rows, euler_bounds(gains), strict=True)):
        share = 1 / (len(gains) - step)
        apart = (1 - share) * apart + share * (gain.point * whole + gain.observation)
        whole = after
    return apart
