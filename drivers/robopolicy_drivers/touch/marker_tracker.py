"""Follows the markers of a gel through the images of the camera behind it.

Pyramidal Lucas-Kanade (B. D. Lucas and T. Kanade, 1981; J.-Y. Bouguet, 2000) follows each marker from image
to image; then its centre is measured anew as the centroid of the dark spot there. So nothing adds up: a
marker's place depends on the present image alone, and a marker that comes back has its place again. Markers
that are hidden, leave the image or were taken for a neighbour move with the markers around them until they
are seen where they are expected.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from robopolicy_drivers.touch.marker_grid import arrange_grid, find_markers, spacing

Floats = NDArray[np.float64]

LEVELS = 3  # of the pyramid above the image: motions of 60 px from image to image are followed
WINDOW = (15, 15)  # [px] of Lucas-Kanade: a marker and its rim
CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 0.03)
_PATCH = 1.8  # half the side of the patch around a marker, in its radii
_LEVEL = 0.65  # of the way from the marker's brightness to the gel's: what is darker belongs to the marker
_CENTROIDS = 2  # each time from the centre of the one before
_MASS_RANGE = (0.3, 3.0)  # of a marker's darkness, relative to what it had at the beginning
_OUTLIER = 0.5  # a marker is not so many spacings away from where its neighbours say that it is
_TOGETHER = 0.35  # two markers are not so near each other, in spacings


class MarkerTracker:
    """See the module text; ``start`` with a first image, then ``track`` each one.

    Args:
        shape: rows and columns of the markers.

    Attributes:
        positions: of the markers ``[rows * columns, 2]``, rows first (x to the right, y down [px]).
        found: which of them are seen in the newest image ``[rows * columns]``.
        reference: where they are when nothing touches the gel ``[rows * columns, 2]`` [px].
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.positions: Floats = np.empty((0, 2))
        self.reference: Floats = np.empty((0, 2))
        self.found: NDArray[np.bool_] = np.empty(0, np.bool_)

    @property
    def displacements(self) -> Floats:
        """How far each marker is from its reference ``[rows * columns, 2]`` [px]."""
        return self.positions - self.reference

    def start(self, image: NDArray[np.uint8]) -> None:
        """Finds the markers; where they are is the reference.

        Args:
            image: grey ``[H, W]`` or rgb ``[H, W, 3]``; nothing touches the gel.

        Raises:
            DeviceError: the image does not show such a grid.
        """
        gray = _brightness(image)
        points, radius = find_markers(gray)
        self.positions, self.found = arrange_grid(points, self.shape)
        self._spacing = spacing(self.positions)
        self._reach = max(2, round(_PATCH * radius))
        self._offsets = np.arange(-self._reach, self._reach + 1)
        self.positions, mass = self._centred(gray, self.positions)
        self._mass = np.where(self.found, mass, np.median(mass[self.found]))
        self._previous = gray
        self.zero()

    def zero(self) -> None:
        """Takes the present places for those when nothing touches the gel."""
        self.reference = self.positions.copy()

    def track(self, image: NDArray[np.uint8]) -> Floats:
        """Follows the markers to the next image.

        Args:
            image: as in ``start``, of the same size.

        Returns:
            ``displacements``.
        """
        gray = _brightness(image)
        before = self.positions.astype(np.float32)
        points, status, _ = cv2.calcOpticalFlowPyrLK(
            self._previous,
            gray,
            before,
            before.copy(),
            winSize=WINDOW,
            maxLevel=LEVELS,
            criteria=CRITERIA,
        )
        self._previous = gray
        followed = np.asarray(status).ravel().astype(bool) & self.found
        places = np.where(followed[:, None], np.asarray(points), self.positions).astype(np.float64)
        places, dark = self._measured(gray, places)
        self.found = followed & dark & self._plausible(places, followed & dark)
        self.positions = places
        if not self.found.all():
            self._seek(gray)
        return self.displacements

    def _seek(self, gray: NDArray[np.uint8]) -> None:
        """Looks for lost markers where their neighbours say that they are."""
        lost = np.flatnonzero(~self.found)
        expected = self._expected(self.positions, self.found)[lost]
        self.positions[lost] = expected
        places, dark = self._measured(gray, self.positions)
        near = np.linalg.norm(places[lost] - expected, axis=1) < self._reach
        again = dark[lost] & near
        candidate = self.found.copy()
        candidate[lost] = again
        again &= self._plausible(places, candidate)[lost]
        self.positions[lost[again]] = places[lost[again]]
        self.found[lost[again]] = True

    def _measured(self, gray: NDArray[np.uint8], places: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Returns the centroids of the dark spots at places, and whether there are any."""
        centres, mass = self._centred(gray, places)
        size = np.array(gray.shape[::-1])
        inside = ((centres > -0.5) & (centres < size - 0.5)).all(1)
        share = mass / self._mass
        return centres, inside & (share > _MASS_RANGE[0]) & (share < _MASS_RANGE[1])

    def _centred(self, gray: NDArray[np.uint8], places: Floats) -> tuple[Floats, Floats]:
        """Returns the centroids ``[N, 2]`` of darkness around places, and its sums ``[N]`` [grey levels]."""
        offsets = self._offsets
        height, width = gray.shape
        centres, mass = places, np.zeros(len(places))
        for _ in range(_CENTROIDS):
            middle = np.rint(centres).astype(np.int64)
            column, row = middle[:, :1] + offsets, middle[:, 1:] + offsets
            seen_row, seen_column = (row >= 0) & (row < height), (column >= 0) & (column < width)
            rows, columns = np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)
            patch = gray[rows[:, :, None], columns[:, None]].astype(np.float32)
            around, darkest = _rim(patch), patch.min((1, 2))
            level = darkest + _LEVEL * (around - darkest)
            # Weights begin with 0 at the level: a pixel that crosses it does not make the centre jump.
            weights = np.clip(level[:, None, None] - patch, 0.0, None)
            weights *= seen_row[:, :, None] & seen_column[:, None]
            mass = weights.sum((1, 2))
            safe = np.maximum(mass, 1e-6)
            shift = np.stack([weights.sum(1) @ offsets / safe, weights.sum(2) @ offsets / safe], axis=1)
            centres = middle + shift
        return centres.astype(np.float64), mass.astype(np.float64)

    def _expected(self, places: Floats, known: NDArray[np.bool_]) -> Floats:
        """Returns where each marker is if it moved like the known ones around it."""
        moved = np.where(known[:, None], places - self.reference, 0.0).reshape(*self.shape, 2)
        weight = known.astype(np.float64).reshape(self.shape)
        side = 3
        while True:
            kernel = (side, side)
            sums = cv2.boxFilter(moved, -1, kernel, normalize=False, borderType=cv2.BORDER_CONSTANT)
            counts = cv2.boxFilter(weight, -1, kernel, normalize=False, borderType=cv2.BORDER_CONSTANT)
            sums, counts = sums - moved, counts - weight  # the others, without itself
            if (counts > 0.5).all() or side > 2 * max(self.shape):
                return self.reference + (sums / np.maximum(counts, 1.0)[..., None]).reshape(-1, 2)
            side += 2

    def _plausible(self, places: Floats, known: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Returns which markers are where those around them allow, and not two at one place."""
        away = np.linalg.norm(places - self._expected(places, known), axis=1)
        plausible = away < _OUTLIER * self._spacing
        distances = np.linalg.norm(places[:, None] - places, axis=2)
        first, second = np.nonzero(np.triu(distances < _TOGETHER * self._spacing, 1))
        for one, other in zip(first, second, strict=True):
            plausible[one if away[one] > away[other] else other] = False
        return plausible


def _brightness(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns the brightest channel: coloured light leaves one bright, and a marker none."""
    if image.ndim == 2:
        return image
    red, green, blue = cv2.split(image)
    return np.asarray(cv2.max(cv2.max(red, green), blue), np.uint8)


def _rim(patches: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the mean along the rim of each patch ``[N]``: the brightness of the gel around a marker."""
    rows, columns = patches[:, (0, -1)], patches[:, 1:-1, (0, -1)]
    total = rows.sum((1, 2)) + columns.sum((1, 2))
    return np.asarray(total / (rows[0].size + columns[0].size), np.float32)
