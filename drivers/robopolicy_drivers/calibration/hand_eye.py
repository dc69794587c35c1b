"""Where a camera sits: in the robot's hand, or beside the robot, from views of a board at known robot poses.

In both cases ``A_i X B_i = Y``. In the hand: A is the tool's pose in the base, X the camera's pose in the
tool, B the board's pose in the camera, Y the board's pose in the base. Beside the robot, with the board in
the hand: A is the base's pose in the tool, X the camera's pose in the base, Y the board's pose in the tool.

The five methods of OpenCV each propose an X; the one that best predicts views that it has not seen is refined
with all views, by the distances between projected and measured corners.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from robopolicy_datasets.errors import ConfigError, DeviceError, unknown_name
from robopolicy_datasets.geometry import Array, invert_pose, pose_from_vector, pose_matrix, pose_to_vector
from robopolicy_drivers.calibration.boards import Board, View
from robopolicy_drivers.calibration.files import calibration_file
from robopolicy_drivers.calibration.intrinsics import CameraIntrinsics

VERSION = 1
MOUNTS = ("hand", "beside")
METHODS = {
    "Tsai": cv2.CALIB_HAND_EYE_TSAI,
    "Park": cv2.CALIB_HAND_EYE_PARK,
    "Horaud": cv2.CALIB_HAND_EYE_HORAUD,
    "Andreff": cv2.CALIB_HAND_EYE_ANDREFF,
    "Daniilidis": cv2.CALIB_HAND_EYE_DANIILIDIS,
}
MIN_VIEWS = 8
FOLDS = 4
MIN_SPREAD_DEG = 4.0  # standard deviation of the robot's rotations about the second of their main axes
LEVER_M = 0.1  # a rotation counts as what it moves at this distance


@dataclass(frozen=True)
class HandEye:
    """Where a camera sits.

    Attributes:
        mount: ``"hand"``, or ``"beside"`` the robot.
        camera: its pose ``[4, 4]`` in the tool's frame ("hand") or in the robot's base ("beside").
        board: the board's pose ``[4, 4]`` in the other one of these frames.
        measured: when (ISO 8601, UTC).
    """

    mount: str
    camera: Array
    board: Array
    measured: str

    def to_json(self) -> str:
        """Returns it as JSON text; a pose is position [m] and axis-angle [rad]."""
        content = {
            "version": VERSION,
            "mount": self.mount,
            "camera": pose_to_vector(self.camera).tolist(),
            "board": pose_to_vector(self.board).tolist(),
            "measured": self.measured,
        }
        return json.dumps(content, indent=2) + "\n"


def load_hand_eye(path: str | Path) -> HandEye:
    """Reads where a camera sits.

    Args:
        path: the file, written from ``HandEye.to_json``.

    Raises:
        ConfigError: there is none, or it is not what this version reads.
    """
    command = "robopolicy devices calibrate hand_eye images=FOLDER intrinsics=FILE"
    with calibration_file(path, "does not say where a camera sits", command) as content:
        if content["version"] != VERSION or content["mount"] not in MOUNTS:
            raise ValueError(f"version {content['version']}, mount {content['mount']} is not known")
        vectors = np.array([content["camera"], content["board"]], np.float64).reshape(2, 6)
        if not np.isfinite(vectors).all():
            raise ValueError("a number is not finite")
        mount, measured = str(content["mount"]), str(content["measured"])
    camera, board = pose_from_vector(vectors)
    return HandEye(mount, camera, board, measured)


@dataclass(frozen=True)
class HandEyeFit:
    """A hand-eye calibration and how well it fits.

    Attributes:
        hand_eye: the result.
        method: that the refinement began with.
        scores: of each method: error of views that it had not seen, a rotation counted at 0.1 m [m].
        rms: of the reprojection errors after the refinement [px].
        positions: of each view: how far it puts the board from where all put it ``[N]`` [m].
        angles: likewise by how much it turns it ``[N]`` [rad].
    """

    hand_eye: HandEye
    method: str
    scores: Mapping[str, float]
    rms: float
    positions: Array
    angles: Array


def board_pose(board: Board, view: View, intrinsics: CameraIntrinsics) -> Array:
    """Returns the pose ``[4, 4]`` of a board in the camera's frame.

    Raises:
        DeviceError: the view does not determine it.
    """
    found, rotation, position = cv2.solvePnP(
        board.points[view.ids],
        view.corners,
        intrinsics.matrix,
        intrinsics.distortion,
        flags=cv2.SOLVEPNP_IPPE,
    )
    if not found:
        raise DeviceError(f"The pose of the board in '{view.name}' could not be found; leave that image out.")
    rotation, position = cv2.solvePnPRefineLM(
        board.points[view.ids], view.corners, intrinsics.matrix, intrinsics.distortion, rotation, position
    )
    return pose_from_vector(np.concatenate([position.ravel(), rotation.ravel()]))


def calibrate_hand_eye(
    board: Board,
    views: Sequence[View],
    tool_poses: Array,
    intrinsics: CameraIntrinsics,
    *,
    mount: str,
    measured: str,
) -> HandEyeFit:
    """Finds where the camera sits.

    Args:
        board: that the views show; it stands still ("hand") or is fixed in the hand ("beside").
        views: one for each robot pose.
        tool_poses: of the tool in the robot's base ``[N, 4, 4]``.
        intrinsics: of the camera, for images of the views' size.
        mount: ``"hand"`` or ``"beside"``.
        measured: when (ISO 8601, UTC).

    Raises:
        ConfigError: the mount is not known, or the intrinsics are for another size of image.
        DeviceError: the views are too few, or the robot turned about one axis only.
    """
    if mount not in MOUNTS:
        raise unknown_name("mount of a camera", mount, MOUNTS)
    if any(view.size != intrinsics.size for view in views):
        raise ConfigError(
            f"The intrinsics are for images of {intrinsics.size} px, and some images are of another size; "
            "use those of this camera at this setting."
        )
    if len(views) < MIN_VIEWS or len(views) != len(tool_poses):
        raise DeviceError(
            f"There are {len(views)} views of the board and {len(tool_poses)} robot poses; needed are at "
            f"least {MIN_VIEWS} of both (20 are good), one pose a view."
        )
    moved = np.asarray(tool_poses, np.float64) if mount == "hand" else invert_pose(tool_poses)
    _check_rotations(moved)
    seen = np.array([board_pose(board, view, intrinsics) for view in views])
    scores = {name: _held_out_error(method, moved, seen) for name, method in METHODS.items()}
    best = min(scores, key=lambda name: scores[name])
    camera = _solve(METHODS[best], moved, seen)
    camera, place, errors = _refine(
        board, views, moved, intrinsics, camera, _mean_pose(moved @ camera @ seen)
    )
    positions, angles = _distances(moved @ camera @ seen, place)
    rms = float(np.sqrt(np.mean(np.sum(errors**2, axis=1))))
    return HandEyeFit(HandEye(mount, camera, place, measured), best, scores, rms, positions, angles)


def _check_rotations(poses: Array) -> None:
    rotations = Rotation.from_matrix(poses[:, :3, :3])
    vectors = (rotations.mean().inv() * rotations).as_rotvec()
    spreads = np.degrees(np.linalg.svd(vectors, compute_uv=False) / np.sqrt(len(vectors)))
    if spreads[1] < MIN_SPREAD_DEG:
        raise DeviceError(
            f"The robot turned about one axis only, or hardly (spread {spreads[0]:.1f}, {spreads[1]:.1f} and "
            f"{spreads[2]:.1f} degrees; the second must be {MIN_SPREAD_DEG:g}): the camera's place along "
            "that axis cannot be found. Turn the tool by 20 degrees or more about at least two axes."
        )


def _solve(method: int, moved: Array, seen: Array) -> Array:
    """Returns the camera's pose ``[4, 4]`` by one of OpenCV's methods; not finite where it fails."""
    try:
        rotation, position = cv2.calibrateHandEye(
            [*moved[:, :3, :3]], [*moved[:, :3, 3]], [*seen[:, :3, :3]], [*seen[:, :3, 3]], method=method
        )
    except cv2.error:
        return np.full((4, 4), np.nan)
    return np.asarray(pose_matrix(np.ravel(position), np.asarray(rotation)), np.float64)


def _held_out_error(method: int, moved: Array, seen: Array) -> float:
    """Returns the error of views that were left out, a quarter at a time [m]; infinite where a fit fails."""
    squares = []
    for fold in range(FOLDS):
        out = np.arange(len(moved)) % FOLDS == fold
        camera = _solve(method, moved[~out], seen[~out])
        if not np.isfinite(camera).all():
            return float("inf")
        place = _mean_pose(moved[~out] @ camera @ seen[~out])
        positions, angles = _distances(moved[out] @ camera @ seen[out], place)
        squares.append(positions**2 + (LEVER_M * angles) ** 2)
    return float(np.sqrt(np.concatenate(squares).mean()))


def _mean_pose(poses: Array) -> Array:
    rotation = Rotation.from_matrix(poses[:, :3, :3]).mean()
    return pose_matrix(np.median(poses[:, :3, 3], axis=0), rotation.as_matrix())


def _distances(poses: Array, place: Array) -> tuple[Array, Array]:
    """Returns how far poses are from a place: ``[N]`` [m] and ``[N]`` [rad]."""
    turned = Rotation.from_matrix(place[:3, :3].T @ poses[:, :3, :3])
    return np.linalg.norm(poses[:, :3, 3] - place[:3, 3], axis=1), np.asarray(turned.magnitude())


def _refine(
    board: Board,
    views: Sequence[View],
    moved: Array,
    intrinsics: CameraIntrinsics,
    camera: Array,
    place: Array,
) -> tuple[Array, Array, Array]:
    """Returns the camera's pose, the board's pose, and the reprojection errors ``[K, 2]`` [px]."""
    back = invert_pose(moved)

    def errors(parameters: Array) -> Array:
        x, y = pose_from_vector(parameters.reshape(2, 6))
        in_camera = invert_pose(x) @ back @ y
        parts = []
        for view, pose in zip(views, in_camera, strict=True):
            points = board.points[view.ids] @ pose[:3, :3].T + pose[:3, 3]
            parts.append(view.corners - intrinsics.project(points))
        return np.concatenate(parts).ravel()

    start = np.concatenate([pose_to_vector(camera), pose_to_vector(place)])
    found = least_squares(errors, start, loss="soft_l1", x_scale="jac")
    x, y = pose_from_vector(found.x.reshape(2, 6))
    return x, y, errors(found.x).reshape(-1, 2)
