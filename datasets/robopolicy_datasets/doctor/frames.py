"""Figures of images, computed block by block, so that a long episode is never in memory as a whole."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.spec import Feature
from robopolicy_datasets.store.demo_store import DemoStore

_BLOCK_BYTES = 64 << 20
_LOOKED_AT = 10_000  # pixels of an image that brightness is computed from; a grid in larger ones


@dataclass(frozen=True)
class FrameFigures:
    """Figures of N images of one feature.

    Attributes:
        brightness: ``[N]`` the mean value; for rgb as a share of full brightness.
        saturated: ``[N]`` the share of values at full brightness; 0 for images that are not rgb.
        repeats: ``[N]`` whether an image equals the one before it in its episode.
        finite: ``[N]`` whether every value is finite.
    """

    brightness: NDArray[np.float64]
    saturated: NDArray[np.float64]
    repeats: NDArray[np.bool_]
    finite: NDArray[np.bool_]

    @classmethod
    def empty(cls, count: int) -> FrameFigures:
        """Returns figures of ``count`` images that are to be filled in."""
        return cls(np.zeros(count), np.zeros(count), np.zeros(count, bool), np.ones(count, bool))

    def select(self, rows: NDArray[np.bool_]) -> FrameFigures:
        """Returns the figures of the chosen images."""
        return FrameFigures(
            self.brightness[rows], self.saturated[rows], self.repeats[rows], self.finite[rows]
        )

    def measure(self, store: DemoStore, feature: Feature, start: int, stop: int) -> None:
        """Fills in the figures of rows ``start`` to ``stop`` (exclusive) of one episode.

        Args:
            store: where the images are.
            feature: which images.
            start: the episode's first row.
            stop: the row after its last.

        Raises:
            StoreError: their bytes are damaged.
        """
        before: NDArray[Any] | None = None
        for first, block in image_blocks(store, feature, start, stop):
            rows = slice(first, first + len(block))
            seen = on_grid(block).reshape(len(block), -1)
            if feature.dtype == "uint8":
                self.brightness[rows] = seen.mean(axis=1) / 255
                self.saturated[rows] = np.count_nonzero(seen == 255, axis=1) / seen.shape[1]
            else:
                self.finite[rows] = np.isfinite(block).reshape(len(block), -1).all(axis=1)
                self.brightness[rows] = np.nan_to_num(seen, posinf=0, neginf=0).mean(axis=1, dtype=np.float64)
            self.repeats[rows] = _repeats(block, before)
            before = block[-1]


def image_blocks(
    store: DemoStore, feature: Feature, start: int, stop: int
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yields (first row, images ``[n, *shape]``) of rows ``start`` to ``stop``, some 64 MB at a time.

    Raises:
        StoreError: their bytes are damaged.
    """
    size = max(1, _BLOCK_BYTES // (feature.size * np.dtype(feature.dtype).itemsize))
    for first in range(start, stop, size):
        yield first, store.rows(feature.key, first, min(stop, first + size))


def on_grid(images: NDArray[Any]) -> NDArray[Any]:
    """Returns images ``[n, H, W, ...]`` on a grid of about 10 000 pixels; smaller ones as they are."""
    stride = max(1, math.isqrt(math.prod(images.shape[1:3]) // _LOOKED_AT))
    return images[(slice(None), *[slice(None, None, stride)] * min(2, images.ndim - 1))]


def _repeats(block: NDArray[Any], before: NDArray[Any] | None) -> NDArray[np.bool_]:
    """Returns ``[n]``: whether each image equals the one before it."""
    same = np.zeros(len(block), bool)
    same[0] = before is not None and np.array_equal(block[0], before)
    values = block.reshape(len(block), -1)
    few = values[:, :: max(1, values.shape[1] // 512)]  # rules most pairs out
    for index in np.flatnonzero((few[1:] == few[:-1]).all(axis=1)) + 1:
        same[index] = np.array_equal(values[index], values[index - 1])
    return same
