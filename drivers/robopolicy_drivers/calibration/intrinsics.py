"""Camera intrinsics from views of a board (Zhang 2000, by OpenCV), with what tells a good set from a bad one.

The model is OpenCV's: a pinhole with five coefficients of distortion (k1, k2, p1, p2, k3).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.calibration.boards import Board, View
from robopolicy_drivers.calibration.files import calibration_file

Array = NDArray[np.float64]

VERSION = 1
MODEL = "opencv5"
MIN_VIEWS = 6
MIN_TILT_DEG = 15.0  # between the two views that differ most; parallel views tell nothing of the focal length
MAX_FOCAL_DEVIATION = 0.02  # standard deviation of a focal length over the focal length
OUTLIER_RATIO = 3.0  # of a view's error over the median of all views
MAX_DROPPED = 0.25  # of the views
GRID = (3, 3)  # rows and columns of the coverage

_ROWS, _COLUMNS = ("upper", "middle", "lower"), ("left", "centre", "right")


@dataclass(frozen=True)
class CameraIntrinsics:
    """How a camera projects.

    Attributes:
        size: width and height of the images that it holds for [px].
        matrix: ``[3, 3]``: focal lengths and principal point [px].
        distortion: ``[5]``: k1, k2, p1, p2, k3.
        rms: of the reprojection errors that it was fitted with [px].
        measured: when (ISO 8601, UTC).
        model: of the distortion.
    """

    size: tuple[int, int]
    matrix: Array
    distortion: Array
    rms: float
    measured: str
    model: str = MODEL

    def project(self, points: ArrayLike) -> Array:
        """Returns image points ``[N, 2]`` [px] of points ``[N, 3]`` in the camera's frame [m]."""
        origin = np.zeros(3)
        places, _ = cv2.projectPoints(
            np.asarray(points, np.float64).reshape(-1, 1, 3), origin, origin, self.matrix, self.distortion
        )
        return np.asarray(places, np.float64).reshape(-1, 2)

    def to_json(self) -> str:
        """Returns the intrinsics as JSON text."""
        content = {
            "version": VERSION,
            "model": self.model,
            "size": list(self.size),
            "matrix": self.matrix.tolist(),
            "distortion": self.distortion.tolist(),
            "rms": self.rms,
            "measured": self.measured,
        }
        return json.dumps(content, indent=2) + "\n"


def load_intrinsics(path: str | Path) -> CameraIntrinsics:
    """Reads intrinsics.

    Args:
        path: the file, written from ``CameraIntrinsics.to_json``.

    Raises:
        ConfigError: there is none, or it holds no intrinsics that this version reads.
    """
    command = "robopolicy devices calibrate camera images=FOLDER"
    with calibration_file(path, "holds no camera intrinsics", command) as content:
        if (content["version"], content["model"]) != (VERSION, MODEL):
            raise ValueError(f"version {content['version']}, model {content['model']} is not known")
        width, height = map(int, content["size"])
        matrix = np.array(content["matrix"], np.float64).reshape(3, 3)
        distortion = np.array(content["distortion"], np.float64).reshape(5)
        if not (np.isfinite(matrix).all() and np.isfinite(distortion).all() and min(width, height) > 0):
            raise ValueError("a number is not finite, or the size is empty")
        rms, measured = float(content["rms"]), str(content["measured"])
    return CameraIntrinsics((width, height), matrix, distortion, rms, measured)


@dataclass(frozen=True)
class IntrinsicsFit:
    """Intrinsics and how well the views determine them.

    Attributes:
        intrinsics: the result.
        deviations: standard deviation of fx, fy, cx, cy [px], by name.
        errors: of each view that was used: measured minus projected corners ``[N, 2]`` [px], by name.
        dropped: root mean square error of each view that was left out [px], by name.
        coverage: how many corners lie in each part of the image ``[3, 3]``, from the upper left.
    """

    intrinsics: CameraIntrinsics
    deviations: Mapping[str, float]
    errors: Mapping[str, Array]
    dropped: Mapping[str, float]
    coverage: NDArray[np.int64]

    def empty_parts(self) -> list[str]:
        """Returns where in the image no corner was seen, e.g. ``"upper left"``: take views there too."""
        return [f"{_ROWS[row]} {_COLUMNS[column]}" for row, column in np.argwhere(self.coverage == 0)]


def calibrate_intrinsics(board: Board, views: Sequence[View], measured: str) -> IntrinsicsFit:
    """Fits the intrinsics; views whose error stands out are left out, one at a time.

    Args:
        board: that the views show.
        views: of one camera at one size, the board at different places and tilts.
        measured: when (ISO 8601, UTC).

    Raises:
        DeviceError: the views are too few, of different sizes, or do not determine the intrinsics.
    """
    _check(views)
    used, dropped = list(views), {}
    for _ in range(int(MAX_DROPPED * len(views))):
        fit = _fit(board, used)
        errors = np.array([_rms(error) for error in fit.errors])
        worst = int(np.argmax(errors))
        if len(used) <= MIN_VIEWS or errors[worst] <= OUTLIER_RATIO * np.median(errors):
            break
        dropped[used.pop(worst).name] = float(errors[worst])
    fit = _fit(board, used)
    _check_determined(fit)
    intrinsics = CameraIntrinsics(
        used[0].size, fit.matrix, fit.distortion, _rms(np.concatenate(fit.errors)), measured
    )
    return IntrinsicsFit(
        intrinsics,
        dict(zip(("fx", "fy", "cx", "cy"), fit.deviations[:4].tolist(), strict=True)),
        {view.name: error for view, error in zip(used, fit.errors, strict=True)},
        dropped,
        _coverage(used),
    )


@dataclass(frozen=True)
class _Fit:
    matrix: Array
    distortion: Array
    deviations: Array
    rotations: Array  # of the board in the camera's frame [V, 3, 3]
    errors: list[Array]


def _check(views: Sequence[View]) -> None:
    sizes = {view.size for view in views}
    if len(views) < MIN_VIEWS:
        raise DeviceError(
            f"The board was found in {len(views)} images; at least {MIN_VIEWS} are needed (20 are good). "
            "Check that board.squares_x, board.squares_y and board.dictionary are those of the printed board."
        )
    if len(sizes) > 1:
        raise DeviceError(
            f"The images have different sizes: {sorted(sizes)}; use those of one camera setting."
        )


def _fit(board: Board, views: Sequence[View]) -> _Fit:
    points = [board.points[view.ids].astype(np.float32) for view in views]
    corners = [view.corners.astype(np.float32) for view in views]
    try:
        _, matrix, distortion, rotations, positions, deviations, _, _ = cv2.calibrateCameraExtended(
            points, corners, views[0].size, np.eye(3), np.zeros(5)
        )
    except cv2.error as error:
        raise DeviceError(
            f"The views do not determine the camera ({error.err}). Take more, the board tilted differently."
        ) from error
    errors = []
    for view, rotation, position in zip(views, rotations, positions, strict=True):
        placed = board.points[view.ids]
        projected, _ = cv2.projectPoints(placed, rotation, position, matrix, distortion)
        errors.append(view.corners - projected.reshape(-1, 2))
    turned = np.array([cv2.Rodrigues(rotation)[0] for rotation in rotations])
    return _Fit(
        np.asarray(matrix, np.float64),
        np.ravel(distortion)[:5].astype(np.float64),
        np.ravel(deviations).astype(np.float64),
        turned,
        errors,
    )


def _check_determined(fit: _Fit) -> None:
    normals = fit.rotations[:, :, 2]
    tilt = float(np.degrees(np.arccos(np.clip(normals @ normals.T, -1.0, 1.0)).max()))
    if tilt < MIN_TILT_DEG:
        raise DeviceError(
            f"All views look at the board from about the same direction (within {tilt:.0f} degrees; needed "
            f"are {MIN_TILT_DEG:.0f}): the focal length cannot be told from the distance. Tilt the board to "
            "all sides."
        )
    focal = fit.matrix[[0, 1], [0, 1]]
    share = float((fit.deviations[:2] / focal).max())
    if not share < MAX_FOCAL_DEVIATION:
        raise DeviceError(
            f"The views determine the focal length to {100 * share:.1f} % only (needed: "
            f"{100 * MAX_FOCAL_DEVIATION:g} %). Take more views, nearer, tilted by 30 to 45 degrees to all "
            "sides."
        )


def _coverage(views: Sequence[View]) -> NDArray[np.int64]:
    corners = np.concatenate([view.corners for view in views])
    width, height = views[0].size
    counts, _, _ = np.histogram2d(corners[:, 1], corners[:, 0], bins=GRID, range=((0, height), (0, width)))
    return counts.astype(np.int64)


def _rms(errors: Array) -> float:
    """Returns the root mean square length of ``[N, 2]`` vectors."""
    return float(np.sqrt(np.mean(np.sum(errors**2, axis=1))))
