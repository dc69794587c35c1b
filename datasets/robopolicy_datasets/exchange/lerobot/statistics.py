"""The statistics that LeRobot keeps of each feature: range, mean, spread and quantiles."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
_MAX_FRAMES = 100  # of an episode; images are statistics of many pixels each

Statistics = dict[str, Any]
"""Nested lists by the name of the statistic, as LeRobot's JSON and parquet files hold them."""


def of_numbers(values: NDArray[Any]) -> Statistics:
    """Returns the statistics over the steps of ``[T, *shape]``, each of ``shape`` (at least one number)."""
    rows = values.reshape(len(values), *(values.shape[1:] or (1,))).astype(np.float64)
    found = {
        "min": rows.min(axis=0),
        "max": rows.max(axis=0),
        "mean": rows.mean(axis=0),
        "std": rows.std(axis=0),
        **dict(zip(_QUANTILES, np.quantile(rows, list(_QUANTILES.values()), axis=0), strict=True)),
    }
    return {**{name: value.tolist() for name, value in found.items()}, "count": [len(rows)]}


def histogram(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Counts the values of each channel in evenly chosen images.

    Args:
        images: uint8 ``[T, height, width, 3]``.

    Returns:
        int64 ``[4, 256]``: the counts of the three channels, and in the last row's first place the images.
    """
    chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), _MAX_FRAMES)).astype(np.int64))
    counts = np.zeros((4, 256), np.int64)
    for frame in chosen:
        for channel in range(3):
            counts[channel] += np.bincount(images[frame, :, :, channel].ravel(), minlength=256)
    counts[3, 0] = len(chosen)
    return counts


def of_histogram(counts: NDArray[np.int64]) -> Statistics:
    """Returns the statistics of what ``histogram`` counted, of values from 0 to 1, as ``[3, 1, 1]``."""
    levels = np.arange(256) / 255
    found: dict[str, list[float]] = {}
    for channel in counts[:3]:
        share = channel / channel.sum()
        present = np.flatnonzero(channel)
        mean = float(share @ levels)
        below = np.cumsum(share)
        values = {
            "min": levels[present[0]],
            "max": levels[present[-1]],
            "mean": mean,
            "std": np.sqrt(share @ (levels - mean) ** 2),
            **{
                name: levels[np.clip(np.searchsorted(below, quantile), 0, 255)]
                for name, quantile in _QUANTILES.items()
            },
        }
        for name, value in values.items():
            found.setdefault(name, []).append(float(value))
    return {
        **{name: [[[value]] for value in channels] for name, channels in found.items()},
        "count": [int(counts[3, 0])],
    }
