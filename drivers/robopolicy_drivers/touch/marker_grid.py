"""Finds the dark markers in an image of a gel and puts them in the order of their grid."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import DeviceError

Floats = NDArray[np.float64]

_CONTRAST = 0.5  # a pixel belongs to a marker where it is so dark, relative to the darkest of the image
_LEAST_CONTRAST = 12.0  # [grey levels]; a gel without markers has less
_AREA_RANGE = (0.25, 4.0)  # of the median; what is smaller or larger is dirt, a shadow or an edge
_REACH = 0.4  # a neighbour is expected within so many spacings
_LEAST_FOUND = 0.8  # share of the grid that must be seen at the beginning

_STEPS = ((0, 1), (0, -1), (1, 0), (-1, 0))  # row, column


def find_markers(gray: NDArray[np.uint8]) -> tuple[Floats, float]:
    """Finds dark blobs of similar size.

    Args:
        gray: the image ``[H, W]``.

    Returns:
        their centres ``[N, 2]`` (x to the right, y down [px]) in no order, and their median radius [px].
    """
    size = max(gray.shape) // 5 | 1  # wide against a marker, narrow against the lights
    darkness = cv2.blur(gray, (size, size), borderType=cv2.BORDER_REFLECT).astype(np.float32) - gray
    level = _CONTRAST * float(np.percentile(darkness, 98))
    if level < _CONTRAST * _LEAST_CONTRAST:
        return np.empty((0, 2)), 0.0
    dark = (darkness > level).astype(np.uint8)
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(dark)
    if count < 2:
        return np.empty((0, 2)), 0.0
    areas = statistics[1:, cv2.CC_STAT_AREA]
    least, most = np.median(areas) * np.array(_AREA_RANGE)
    chosen = (areas >= least) & (areas <= most)
    flat, weights = labels.ravel(), darkness.ravel()
    y, x = np.divmod(np.arange(flat.size), gray.shape[1])
    mass = np.bincount(flat, weights)[1:]
    centres = np.stack([np.bincount(flat, weights * along)[1:] / mass for along in (x, y)], axis=1)
    return centres[chosen], float(np.sqrt(np.median(areas[chosen]) / np.pi))


def arrange_grid(points: Floats, shape: tuple[int, int]) -> tuple[Floats, NDArray[np.bool_]]:
    """Orders points that lie in a somewhat turned and bent grid: rows from above, columns from the left.

    Args:
        points: ``[N, 2]`` (x to the right, y down [px]) in any order.
        shape: rows and columns that are expected.

    Returns:
        places ``[rows * columns, 2]``, rows first, and which of them ``[rows * columns]`` were among the
        points; the others are where their neighbours say that they should be.

    Raises:
        DeviceError: there is no such grid; says which there is.
    """
    rows, columns = shape
    numbers = _lattice(points)
    if not numbers:
        raise DeviceError(_no_grid(shape, f"{len(points)} markers in no grid were seen"))
    seen = np.array(list(numbers.values()))
    extent = np.ptp(seen, axis=0) + 1
    corner = _fullest_window(seen, shape)
    grid = np.full((rows, columns, 2), np.nan)
    for index, (row, column) in numbers.items():
        place = (row - corner[0], column - corner[1])
        if 0 <= place[0] < rows and 0 <= place[1] < columns:
            grid[place] = points[index]
    found = np.isfinite(grid[..., 0])
    outside = len(seen) - found.sum()  # half-hidden markers at the border of the image, not a whole row
    if found.mean() < _LEAST_FOUND or outside > min(shape) / 2:
        raise DeviceError(_no_grid(shape, f"a grid of {extent[0]} x {extent[1]} was seen"))
    return _filled(grid, found).reshape(-1, 2), found.ravel()


def spacing(points: Floats) -> float:
    """Returns the median distance of points ``[N, 2]`` to their nearest neighbours."""
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    np.fill_diagonal(distances, np.inf)
    return float(np.median(distances.min(1)))


def _no_grid(shape: tuple[int, int], seen: str) -> str:
    return (
        f"The gel should show {shape[0]} x {shape[1]} markers, but {seen}. Let nothing touch the gel while "
        "it connects, check light and focus, and set rows= and columns= to what the gel has."
    )


def _lattice(points: Floats) -> dict[int, tuple[int, int]]:
    """Numbers points by row and column, beginning anywhere, going on from neighbour to neighbour."""
    if len(points) < 4:
        return {}
    across = _typical_step(points, axis=0)
    down = _typical_step(points, axis=1)
    middle = int(np.linalg.norm(points - np.median(points, axis=0), axis=1).argmin())
    numbers, taken = {middle: (0, 0)}, {(0, 0)}
    open_points = deque([(middle, across, down)])
    while open_points:
        index, across, down = open_points.popleft()
        for row, column in _STEPS:
            place = (numbers[index][0] + row, numbers[index][1] + column)
            step = row * down + column * across
            away = np.linalg.norm(points - (points[index] + step), axis=1)
            nearest = int(away.argmin())
            if place in taken or nearest in numbers or away[nearest] > _REACH * np.linalg.norm(step):
                continue
            # The step found here is the one to expect next: a bent grid is followed.
            real = (row + column) * (points[nearest] - points[index])
            numbers[nearest] = place
            taken.add(place)
            open_points.append((nearest, across if row else real, real if row else down))
    return numbers


def _typical_step(points: Floats, axis: int) -> Floats:
    """Returns the median way to the neighbour along x (0) or y (1) of the image."""
    ways = points - points[:, None]
    along, aside = ways[..., axis], np.abs(ways[..., 1 - axis])
    distances = np.where((along > 0) & (aside < along), np.linalg.norm(ways, axis=2), np.inf)
    nearest = distances.argmin(1)
    exists = np.isfinite(distances.min(1))
    if not exists.any():
        return np.eye(2)[axis]
    return np.asarray(np.median(ways[exists, nearest[exists]], axis=0))


def _fullest_window(seen: NDArray[np.int_], shape: tuple[int, int]) -> tuple[int, int]:
    """Returns the first row and column of the window of ``shape`` that holds the most of ``seen``."""
    lowest, highest = seen.min(0), seen.max(0)
    corners = [
        (int(row), int(column))
        for row in range(lowest[0], max(lowest[0], highest[0] - shape[0] + 1) + 1)
        for column in range(lowest[1], max(lowest[1], highest[1] - shape[1] + 1) + 1)
    ]
    return max(corners, key=lambda corner: _inside(seen, corner, shape))


def _inside(seen: NDArray[np.int_], corner: tuple[int, int], shape: tuple[int, int]) -> int:
    way = seen - np.array(corner)
    return int(((way >= 0) & (way < np.array(shape))).all(1).sum())


def _filled(grid: Floats, found: NDArray[np.bool_]) -> Floats:
    """Puts missing markers where a plane of second order through the others has them."""
    row, column = (index / max(index.max(), 1) for index in np.indices(found.shape))
    terms = np.stack([np.ones_like(row), row, column, row * column, row**2, column**2], axis=-1)
    weights = np.linalg.lstsq(terms[found], grid[found], rcond=None)[0]
    return np.where(found[..., None], grid, terms @ weights)
