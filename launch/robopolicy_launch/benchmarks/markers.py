"""Tracking a gel's markers in images of 320 x 240 px: the whole tracker beside OpenCV's bare Lucas-Kanade.

The images are drawn: 7 x 9 and 8 x 10 dots, which go around in a circle and are pressed apart by turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import cycle

import cv2
import numpy as np
from numpy.typing import NDArray

from robopolicy_drivers.touch.marker_tracker import CRITERIA, LEVELS, WINDOW, MarkerTracker
from robopolicy_launch.benchmarks import Row
from robopolicy_launch.benchmarks._timing import side_by_side, threads

HEIGHT, WIDTH = 240, 320
_RADIUS = 5  # [px]
_SHARPNESS = 4  # fractional bits of a marker's place, in cv2's way
_IMAGES = 40
_MOTION = 6.0  # [px]


def run(*, shapes: tuple[tuple[int, int], ...] = ((7, 9), (8, 10)), seconds: float = 4.0) -> Iterator[Row]:
    """Measures one image.

    Args:
        shapes: rows and columns of the markers.
        seconds: to spend on each row.
    """
    cores = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threads(1):
            for shape in shapes:
                images = film(shape)
                tracker = MarkerTracker(shape)
                tracker.start(images[0])
                gray = [np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8) for image in images]
                following, bare = cycle(images), cycle(zip(gray, [*gray[1:], gray[0]], strict=True))
                points = tracker.positions.astype(np.float32)
                ours = partial(_track, tracker, following)
                times = side_by_side(ours, partial(_lucas_kanade, points, bare), seconds=seconds)
                yield Row(f"markers_{shape[0]}x{shape[1]}", *times, "ms", "OpenCV's Lucas-Kanade alone")
    finally:
        cv2.setNumThreads(cores)


def film(shape: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """Returns images ``[240, 320, 3]`` of a gel whose markers move by up to 6 px, 1 to 2 px each time."""
    rows, columns = shape
    x, y = (np.arange(columns) + 0.5) * WIDTH / columns, (np.arange(rows) + 0.5) * HEIGHT / rows
    rest = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2) - 0.5
    outward = (rest - rest.mean(0)) / WIDTH
    random = np.random.default_rng(0)
    images = []
    for angle in 2 * np.pi * np.arange(_IMAGES) / _IMAGES:
        places = rest + _MOTION * (np.array([np.cos(angle), np.sin(angle)]) + np.sin(angle) * outward)
        image = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
        for place in np.rint(places * 2**_SHARPNESS).astype(int).tolist():
            cv2.circle(image, place, _RADIUS << _SHARPNESS, (40, 40, 40), -1, cv2.LINE_AA, _SHARPNESS)
        images.append(np.clip(image + random.normal(0.0, 2.0, image.shape), 0, 255).astype(np.uint8))
    return images


def _track(tracker: MarkerTracker, images: Iterator[NDArray[np.uint8]]) -> None:
    tracker.track(next(images))


def _lucas_kanade(
    points: NDArray[np.float32], pairs: Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]
) -> None:
    """Follows the points once, with the tracker's own settings."""
    before, after = next(pairs)
    cv2.calcOpticalFlowPyrLK(
        before, after, points, points.copy(), winSize=WINDOW, maxLevel=LEVELS, criteria=CRITERIA
    )
