"""Takes images of a calibration board from a live camera, with the pose of the robot at each."""

from __future__ import annotations

import contextlib
import csv
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from robopolicy_datasets.errors import ConfigError, DeviceError, unknown_name
from robopolicy_drivers.calibration.boards import View, find_board, make_board
from robopolicy_drivers.interfaces import Camera, Robot
from robopolicy_launch import console
from robopolicy_launch.verbs.devices.calibrate import Settings
from robopolicy_launch.verbs.devices.calibrating import POSE_COLUMNS, POSES
from robopolicy_launch.verbs.devices.connecting import build, connected

REST_S = 0.5  # between two looks at the board; it rests where it is at the same place in both
STILL_SHARE = 0.003  # of the image's width: corners that moved less rest
APART_SHARE = 0.06  # of the image's width: a new view differs so much from all before
PATIENCE_S = 120.0
POSITION, ROTATION = "robot0_eef_pos", "robot0_eef_rot_axis_angle"


def capture(settings: Settings, config: DictConfig) -> None:
    """Fills ``target`` with images, and ``poses.csv`` of a robot; nothing that is there is overwritten.

    Raises:
        ConfigError: the folder is there and not empty, or the camera is not.
        DeviceError: nothing new was shown for two minutes; what was taken is kept.
    """
    folder = Path(settings.target).expanduser()
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"'{folder}' is not empty; give the name of a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    board = make_board(settings.board)
    taken: list[View] = []
    with contextlib.ExitStack() as devices:
        robot, cameras = _connect(settings, devices)
        camera, key = _chosen(cameras, settings.image)
        write_pose = devices.enter_context(_poses(folder / POSES, robot))
        console.line("Show the board from all sides, tilted, near and far, and keep still at each place.")
        before, waited_since = None, time.monotonic()
        while len(taken) < settings.count:
            time.sleep(REST_S)
            image = camera.read()[1][key]
            view = find_board(board, image, f"{len(taken):03}.png")
            if view is not None and _rests(before, view) and all(_apart(other, view) for other in taken):
                cv2.imwrite(str(folder / view.name), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
                write_pose(view.name)
                taken.append(view)
                waited_since = time.monotonic()
                console.line(f"  {len(taken)} of {settings.count}: {len(view.ids)} corners")
            elif time.monotonic() - waited_since > PATIENCE_S:
                raise DeviceError(
                    f"No new view of the board came for {PATIENCE_S:.0f} s; {len(taken)} are in '{folder}'."
                )
            before = view
    console.line(f"{folder}: {len(taken)} images. Next: robopolicy devices calibrate camera images={folder}")


def _connect(settings: Settings, devices: contextlib.ExitStack) -> tuple[Robot | None, list[Camera]]:
    """Connects the robot, its own cameras and the camera beside it, as far as they are given."""
    robot: Robot | None = None
    cameras: list[Camera] = []
    if settings.robot:
        robot = build("robot", settings.robot)
        cameras += devices.enter_context(connected(robot))
    if settings.camera:
        cameras.append(devices.enter_context(build("camera", settings.camera)))
    return robot, cameras


@contextlib.contextmanager
def _poses(path: Path, robot: Robot | None) -> Iterator[Callable[[str], None]]:
    """Yields what writes the robot's pose beside the name of an image; without a robot it does nothing."""
    if robot is None:
        yield lambda name: None
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(POSE_COLUMNS)

        def write(name: str) -> None:
            table.writerow([name, *_pose(robot)])
            file.flush()

        yield write


def _chosen(cameras: Sequence[Camera], key: str) -> tuple[Camera, str]:
    keys = {feature.key: camera for camera in cameras for feature in camera.spec.observation}
    if not keys:
        raise ConfigError("This robot has no camera; give one beside it with camera=...")
    if not key and len(keys) > 1:
        raise ConfigError(f"There are several images; give image= one of: {', '.join(sorted(keys))}.")
    chosen = key or next(iter(keys))
    if chosen not in keys:
        raise unknown_name("image", chosen, keys)
    return keys[chosen], chosen


def _pose(robot: Robot) -> list[float]:
    """Returns the tool's pose, or an empty row where the robot does not tell it."""
    _, state = robot.state()
    if POSITION not in state or ROTATION not in state:
        return []
    values: NDArray[np.float64] = np.concatenate([state[POSITION], state[ROTATION]]).astype(np.float64)
    return [float(value) for value in values]


def _rests(before: View | None, view: View) -> bool:
    moved = None if before is None else _moved(before, view)
    return moved is not None and moved < STILL_SHARE * view.size[0]


def _apart(other: View, view: View) -> bool:
    moved = _moved(other, view)
    return moved is None or moved > APART_SHARE * view.size[0]


def _moved(first: View, second: View) -> float | None:
    """Returns how far the corners that both views have moved on average [px]; None where they share none."""
    _, one, other = np.intersect1d(first.ids, second.ids, return_indices=True)
    if not one.size:
        return None
    return float(np.linalg.norm(first.corners[one] - second.corners[other], axis=1).mean())
