"""Intrinsics and hand-eye from a folder of images, each with a report."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.geometry import pose_from_vector, pose_to_vector
from robopolicy_drivers.calibration.boards import Board, View, find_board, make_board
from robopolicy_drivers.calibration.hand_eye import calibrate_hand_eye
from robopolicy_drivers.calibration.intrinsics import IntrinsicsFit, calibrate_intrinsics, load_intrinsics
from robopolicy_launch import console
from robopolicy_launch.reports import page
from robopolicy_launch.run_folder import RunFolder, write_text_atomic
from robopolicy_launch.verbs.devices.calibrate import Settings

SUFFIXES = (".png", ".jpg", ".jpeg")
POSES = "poses.csv"
POSE_COLUMNS = ("image", "x", "y", "z", "rx", "ry", "rz")  # [m], axis-angle [rad]
ERROR_SCALE = 50  # of the arrows in the pictures
PICTURE_WIDTH = 480

Images = dict[str, NDArray[np.uint8]]


def calibrate_camera(settings: Settings, config: DictConfig) -> None:
    """Finds the intrinsics and writes ``intrinsics.json`` and a report into a run folder."""
    with RunFolder.create(
        "devices-calibrate", root=settings.runs, name=settings.name or "camera", config=config
    ) as folder:
        board = make_board(settings.board)
        images, views = _find(settings.images, board)
        fit = calibrate_intrinsics(board, views, _now())
        _write(folder, "intrinsics.json", fit.intrinsics.to_json(), settings.output)
        (fx, _, cx), (_, fy, cy) = fit.intrinsics.matrix[:2].tolist()
        folder.add_figures({"images": len(images), "views": len(fit.errors), "dropped": len(fit.dropped)})
        folder.add_figures({"fx": fx, "fy": fy, "cx": cx, "cy": cy, "rms_px": fit.intrinsics.rms})
        folder.add_figures(fit.deviations, prefix="deviation_")
        for name, error in fit.dropped.items():
            console.line(f"  {name} was left out: its error of {error:.2f} px stands out.")
        if fit.empty_parts():
            console.line(f"  No corner was seen {', '.join(fit.empty_parts())}: take views there too.")
        _write_page(folder, fit, images, views)
        folder.finish()


def calibrate_arm(settings: Settings, config: DictConfig) -> None:
    """Finds where the camera sits and writes ``hand_eye.json`` into a run folder."""
    with RunFolder.create(
        "devices-calibrate", root=settings.runs, name=settings.name or "hand_eye", config=config
    ) as folder:
        board, intrinsics = make_board(settings.board), load_intrinsics(settings.intrinsics)
        poses = read_poses(Path(settings.images).expanduser() / POSES)
        _, views = _find(settings.images, board)
        views = [view for view in views if view.name in poses]
        tool_poses = np.array([poses[view.name] for view in views]).reshape(-1, 4, 4)
        fit = calibrate_hand_eye(board, views, tool_poses, intrinsics, mount=settings.mount, measured=_now())
        _write(folder, "hand_eye.json", fit.hand_eye.to_json(), settings.output)
        figures = dict(
            zip(("x", "y", "z", "rx", "ry", "rz"), pose_to_vector(fit.hand_eye.camera).tolist(), strict=True)
        )
        folder.add_figures({"views": len(views), "method": fit.method, "rms_px": fit.rms, **figures})
        rms_m, rms_rad = (float(np.sqrt(np.mean(part**2))) for part in (fit.positions, fit.angles))
        folder.add_figures({"residual_mm": 1e3 * rms_m, "residual_deg": float(np.degrees(rms_rad))})
        folder.add_figures({name: 1e3 * score for name, score in fit.scores.items()}, prefix="held_out_mm_")
        views_table = [
            (view.name, len(view.ids), 1e3 * position, float(np.degrees(angle)))
            for view, position, angle in zip(views, fit.positions.tolist(), fit.angles.tolist(), strict=True)
        ]
        header = ("image", "corners", "from the common place [mm]", "turned [degrees]")
        methods = [(name, 1e3 * score) for name, score in fit.scores.items()]
        page.write_page(
            folder.path / "report.html",
            title="Hand-eye calibration",
            subtitle=str(folder.path),
            figures={"mm, residual": f"{1e3 * rms_m:.2f}", "degrees, residual": f"{np.degrees(rms_rad):.2f}"},
            sections=[
                page.Section("Views", page.table(views_table, header)),
                page.Section("Methods", page.table(methods, ("method", "error of held-out views [mm]"))),
            ],
        )
        folder.finish()


def read_poses(path: Path) -> dict[str, NDArray[np.float64]]:
    """Reads the robot's poses ``[4, 4]`` by image name.

    Raises:
        ConfigError: the file is missing or has other columns.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        vectors = {row["image"]: [float(row[key]) for key in POSE_COLUMNS[1:]] for row in rows}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"'{path}' does not give the robot's poses ({type(error).__name__}: {error}). It has the columns "
            f"{', '.join(POSE_COLUMNS)} in m and rad; 'devices calibrate capture' writes it."
        ) from error
    return {name: np.asarray(pose_from_vector(np.array(vector))) for name, vector in vectors.items()}


def _find(folder: str, board: Board) -> tuple[Images, list[View]]:
    """Returns the images of a folder by name, and the views of the board in them."""
    paths = sorted(path for path in Path(folder).expanduser().glob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ConfigError(f"There are no images ({', '.join(SUFFIXES)}) in '{folder}'.")
    images, views = {}, []
    with console.Progress("Looking for the board", len(paths)) as progress:
        for number, path in enumerate(paths):
            image = cv2.imread(str(path))
            if image is None:
                raise ConfigError(f"'{path}' is not an image that OpenCV reads; remove it.")
            images[path.name] = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
            view = find_board(board, images[path.name], path.name)
            views += [view] if view is not None else []
            progress(number + 1)
    console.line(f"The board was found in {len(views)} of {len(paths)} images.")
    return images, views


def _write_page(folder: RunFolder, fit: IntrinsicsFit, images: Images, views: list[View]) -> None:
    rows: list[tuple[object, ...]] = [
        (name, len(error), _rms(error), "used") for name, error in fit.errors.items()
    ]
    rows += [(name, None, error, "left out") for name, error in fit.dropped.items()]
    pictures = [
        (_picture(images[view.name], view, fit.errors), view.name)
        for view in views
        if view.name in fit.errors
    ]
    missing = fit.empty_parts()
    told = f"No corner was seen {', '.join(missing)}." if missing else "Corners were seen everywhere."
    focal = fit.intrinsics.matrix[0, 0]
    page.write_page(
        folder.path / "report.html",
        title="Camera calibration",
        subtitle=str(folder.path),
        figures={
            "px, error (rms)": f"{fit.intrinsics.rms:.3f}",
            "px, focal length": f"{focal:.1f} ± {fit.deviations['fx']:.1f}",
            "views": str(len(fit.errors)),
        },
        sections=[
            page.Section(
                "Coverage",
                page.paragraph(f"Corners in each ninth of the image. {told}")
                + page.table(fit.coverage.tolist(), ("left", "centre", "right")),
            ),
            page.Section(
                "Detections",
                page.paragraph(f"Corners, and their errors {ERROR_SCALE} times as large.")
                + page.image_strip(pictures, "corners of the board and their errors"),
            ),
            page.Section("Views", page.table(rows, ("image", "corners", "rms [px]", ""))),
        ],
    )


def _picture(image: NDArray[np.uint8], view: View, errors: Mapping[str, NDArray[np.float64]]) -> bytes:
    """Draws the corners of a view with its errors, as a JPEG."""
    scale = PICTURE_WIDTH / image.shape[1]
    drawn = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    for corner, error in zip(view.corners, errors[view.name], strict=True):
        start = np.round(scale * corner).astype(int).tolist()
        end = np.round(scale * (corner + ERROR_SCALE * error)).astype(int).tolist()
        cv2.circle(drawn, start, 3, (0, 160, 60), 1, cv2.LINE_AA)
        cv2.line(drawn, start, end, (220, 40, 40), 1, cv2.LINE_AA)
    encoded = cv2.imencode(".jpg", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))[1]
    return bytes(encoded.tobytes())


def _rms(errors: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.sum(errors**2, axis=1))))


def _write(folder: RunFolder, name: str, text: str, output: str) -> None:
    for path in (folder.path / name, *([Path(output).expanduser()] if output else [])):
        write_text_atomic(path, text)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
