"""How much later one signal shows what another one showed: normalised cross-correlation.

UMI (Chi et al. 2024, ``umi/common/latency_util.py``) resamples both signals to 1 ms and takes the largest
correlation. Here the correlation at each shift is Pearson's over the part that both signals cover, so that a
shift is not preferred because more of the signals overlaps, and the peak is found between the samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import correlate

from robopolicy_datasets.errors import DeviceError

Array = NDArray[np.float64]

STEP_S = 0.001
LONGEST_DELAY_S = 0.5
LEAST_CORRELATION = 0.8
LARGEST_RIVAL = 0.95  # of the peak's correlation; a second peak that is higher makes the delay ambiguous
MIN_SAMPLES = 16
MIN_OVERLAP = 0.5  # of the shorter signal, at every shift that is looked at


@dataclass(frozen=True)
class Delay:
    """A measured delay.

    Attributes:
        seconds: how much later the second signal is; negative where it is earlier [s].
        correlation: Pearson's correlation of the signals at this delay, 0 to 1.
        rival: the largest correlation at another peak, 0 to 1; the nearer to ``correlation``, the less sure.
    """

    seconds: float
    correlation: float
    rival: float


def estimate_delay(
    times: ArrayLike,
    values: ArrayLike,
    later_times: ArrayLike,
    later_values: ArrayLike,
    *,
    longest_s: float = LONGEST_DELAY_S,
    signed: bool = True,
) -> Delay:
    """Measures how much later the second signal shows the first; scale and offset do not matter.

    Args:
        times: of the first signal ``[N]``, rising, at any rate and with gaps [s].
        values: ``[N]``, in any unit.
        later_times: of the second signal ``[M]`` [s].
        later_values: ``[M]``, in any unit.
        longest_s: the largest delay that is looked for, either way [s].
        signed: whether the second signal has the sign of the first; otherwise both signs are tried.

    Raises:
        DeviceError: a signal is too short or does not change, the two do not resemble each other, or two
            delays explain them about equally well.
    """
    first = _Signal.of(times, values, "first")
    second = _Signal.of(later_times, later_values, "second")
    shifts = round(longest_s / STEP_S)
    correlations = _correlations(first, second, shifts)
    score = correlations if signed else np.abs(correlations)
    peak = int(np.argmax(score))
    correlation = float(score[peak])
    if correlation < LEAST_CORRELATION:
        raise DeviceError(
            f"The two signals do not resemble each other (correlation {correlation:.2f}, needed "
            f"{LEAST_CORRELATION}); no delay was measured. Look whether the device really moved, move it "
            "farther, and keep everything else still."
        )
    if peak in (0, len(score) - 1):
        raise DeviceError(
            f"The delay is larger than the longest one that was looked for ({longest_s:g} s). Look for a "
            "longer one, with a longer motion."
        )
    rival = _rival(score, peak)
    if rival > LARGEST_RIVAL * correlation:
        raise DeviceError(
            f"Two delays explain the signals about equally well (correlations {correlation:.3f} and "
            f"{rival:.3f}): the motion repeats itself. Use a motion whose frequency changes, or a longer one."
        )
    return Delay((peak - shifts + _vertex(score[peak - 1 : peak + 2])) * STEP_S, correlation, rival)


@dataclass(frozen=True)
class _Signal:
    """A signal that can be read at any time."""

    times: Array
    values: Array

    @classmethod
    def of(cls, times: ArrayLike, values: ArrayLike, name: str) -> _Signal:
        time, value = np.asarray(times, np.float64), np.asarray(values, np.float64)
        fits = time.ndim == 1 and time.shape == value.shape and len(time) >= MIN_SAMPLES
        if not fits or not np.isfinite(value).all() or not (np.diff(time) > 0).all():
            raise DeviceError(
                f"The {name} signal has times {time.shape} and values {value.shape}; needed are at least "
                f"{MIN_SAMPLES} finite values at rising times."
            )
        if not np.ptp(value) > 1e-9 * max(1.0, float(np.abs(value).max())):
            raise DeviceError(f"The {name} signal does not change: nothing moved, so no delay was measured.")
        return cls(time, value)

    def at(self, times: Array) -> Array:
        return np.interp(times, self.times, self.values)


def _correlations(first: _Signal, second: _Signal, shifts: int) -> Array:
    """Returns Pearson's correlations ``[2 * shifts + 1]``, first for the second signal being earlier."""
    # The first signal in full; of the second the part before and after it too, where there is any.
    count = int((first.times[-1] - first.times[0]) / STEP_S) + 1
    base = first.at(first.times[0] + STEP_S * np.arange(count))
    grid = first.times[0] + STEP_S * np.arange(-shifts, count + shifts)
    covered = ((grid >= second.times[0]) & (grid <= second.times[-1])).astype(np.float64)
    other = (second.at(grid) - second.values.mean()) * covered
    base = base - base.mean()

    def slide(over: Array, weights: Array) -> Array:
        return np.asarray(correlate(over, weights, mode="valid"), np.float64)

    n = slide(covered, np.ones(count))
    if n.min() < MIN_OVERLAP * count:
        raise DeviceError(
            f"The signals have too little time in common ({n.min() * STEP_S:.2f} s of {count * STEP_S:.2f} s "
            "at some delay); record both for longer than the longest delay."
        )
    sum_base, sum_other = slide(covered, base), slide(other, np.ones(count))
    product = slide(other, base) - sum_base * sum_other / n
    spread_base = slide(covered, base**2) - sum_base**2 / n
    spread_other = slide(other**2, np.ones(count)) - sum_other**2 / n
    scale = np.sqrt(np.maximum(spread_base, 0) * np.maximum(spread_other, 0))
    return np.divide(product, scale, out=np.zeros_like(product), where=scale > 1e-9 * scale.max())


def _rival(score: Array, peak: int) -> float:
    """Returns the highest other local maximum, 0 where there is none."""
    inner = score[1:-1]
    peaks = np.flatnonzero((inner > score[:-2]) & (inner >= score[2:])) + 1
    trough = _valley(score, peak)
    others = [float(score[index]) for index in peaks if not trough[0] <= index <= trough[1]]
    return max(others, default=0.0)


def _valley(score: Array, peak: int) -> tuple[int, int]:
    """Returns the range around a peak in which the score stays above half of it: its own lobe."""
    below = np.flatnonzero(score < 0.5 * score[peak])
    left, right = below[below < peak], below[below > peak]
    return (int(left[-1]) if left.size else 0), (int(right[0]) if right.size else len(score) - 1)


def _vertex(three: Array) -> float:
    """Returns where, from the middle one, the parabola through three values is highest, in samples."""
    curvature = three[0] - 2.0 * three[1] + three[2]
    return float(0.5 * (three[0] - three[2]) / curvature) if curvature < 0 else 0.0
