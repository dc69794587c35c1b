"""Pictures that show when they were taken: 40 squares in the middle, black or white, are a time in us.

So the age of a frame is measured from what it shows, whatever a driver says of its time. A square is large
enough to survive compression and the scaling to an image of 224 pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

COLUMNS, ROWS = 8, 5
SQUARE = 32  # pixels, in a picture of 640 x 480
WIDTH, HEIGHT = 640, 480
_LEFT, _TOP = (WIDTH - COLUMNS * SQUARE) // 2, (HEIGHT - ROWS * SQUARE) // 2


def draw(time_ns: int) -> NDArray[np.uint8]:
    """Returns a BGR picture ``[480, 640, 3]`` of some colors that shows a time [ns]."""
    column = np.linspace(40, 200, WIDTH, dtype=np.uint8)
    picture = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    picture[...] = np.stack([column, column[::-1], np.full_like(column, 90)], axis=-1)
    bits = (time_ns // 1000) >> np.arange(COLUMNS * ROWS) & 1
    squares = (255 * bits.reshape(ROWS, COLUMNS)).astype(np.uint8)
    large = squares.repeat(SQUARE, 0).repeat(SQUARE, 1)[..., np.newaxis]
    picture[_TOP : _TOP + ROWS * SQUARE, _LEFT : _LEFT + COLUMNS * SQUARE] = large
    return picture


def shown_ns(image: NDArray[np.uint8], near_ns: int) -> int:
    """Returns the time that an image shows [ns], of all that fit the nearest to ``near_ns``.

    Args:
        image: a whole picture of any size, or the square in its middle; RGB.
        near_ns: of the same clock.
    """
    height, width = image.shape[:2]
    scale = height / HEIGHT
    columns = (width / 2 + (np.arange(COLUMNS) - COLUMNS / 2 + 0.5) * SQUARE * scale).astype(int)
    rows = (height / 2 + (np.arange(ROWS) - ROWS / 2 + 0.5) * SQUARE * scale).astype(int)
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    bits = (gray[np.ix_(rows, columns)] > 127).ravel()
    shown_us = sum(1 << index for index, bit in enumerate(bits) if bit)
    period = 1 << COLUMNS * ROWS
    return 1000 * (shown_us + period * round((near_ns // 1000 - shown_us) / period))
