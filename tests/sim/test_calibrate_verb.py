"""Calibration as a user does it: print, capture, intrinsics, hand-eye; arm and pictures are simulated."""

import csv
import json

import cv2
import numpy as np
import pytest
from board_world import HEIGHT, WIDTH, BoardWorld

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.geometry import pose_to_vector, relative_pose
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.calibration.boards import make_board
from robopolicy_drivers.calibration.configs import BoardConfig
from robopolicy_drivers.calibration.hand_eye import load_hand_eye
from robopolicy_drivers.calibration.intrinsics import load_intrinsics
from robopolicy_launch import command
from robopolicy_launch.verbs.devices import capturing

BOARD = ["board.square=0.02", "board.marker=0.015"]


class GuidedArm:
    """The simulated arm, guided by hand: it stays at each place for three looks of the camera."""

    def __init__(self):
        self.world, self.looks = BoardWorld(make_board(BoardConfig(square=0.02, marker=0.015))), 0
        self.cameras = (self,)
        self.spec = Spec((Feature("camera1_rgb", (HEIGHT, WIDTH, 3), "uint8", "rgb"),), ())

    def connect(self):
        pass

    close = connect

    def state(self):
        pose = pose_to_vector(self.world.tool_pose()).astype(np.float32)
        return now_ns(), {"robot0_eef_pos": pose[:3], "robot0_eef_rot_axis_angle": pose[3:]}

    def read(self):
        if self.looks % 3 == 0:
            self.world.move(self.world.home + self.world.random.uniform(-0.35, 0.35, 6))
        self.looks += 1
        return now_ns(), {"camera1_rgb": self.world.image("camera1")}


@pytest.fixture(scope="module")
def arm():
    return GuidedArm()


@pytest.fixture(scope="module")
def captured(arm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibration") / "views"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capturing, "build", lambda kind, config: arm)
        patch.setattr(capturing, "REST_S", 0.0)
        words = ["robot=sim", f"target={folder}", "count=24", *BOARD]
        assert command.main(["devices", "calibrate", "capture", *words]) == 0
    return folder


def test_captured_views_are_apart_and_have_poses(arm, captured, capsys, monkeypatch):
    assert len(list(captured.glob("*.png"))) == 24
    with (captured / "poses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    poses = np.array([[float(row[key]) for key in ("x", "y", "z", "rx", "ry", "rz")] for row in rows])
    assert len(poses) == len(np.unique(poses, axis=0)) == 24
    monkeypatch.setattr(capturing, "build", lambda kind, config: arm)
    words = ["devices", "calibrate", "capture", "robot=sim", f"target={captured}"]
    assert command.main(words) == command.FAILED
    assert "is not empty" in capsys.readouterr().err


def test_a_camera_is_captured_by_itself(capsys, tmp_path):
    """The video shows a board at two places, for three seconds each."""
    world = BoardWorld(make_board(BoardConfig(square=0.02, marker=0.015)))
    video = cv2.VideoWriter(str(tmp_path / "board.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (WIDTH, HEIGHT))
    for _ in range(2):
        world.move(world.home + world.random.uniform(-0.35, 0.35, 6))
        picture = cv2.cvtColor(world.image("camera1"), cv2.COLOR_RGB2BGR)
        for _ in range(30):
            video.write(picture)
    video.release()
    settings = [f"camera.address={tmp_path / 'board.avi'}", "camera.image_size=0", "camera.frozen_after_s=0"]
    settings += [
        f"camera.width={WIDTH}",
        f"camera.height={HEIGHT}",
        f"target={tmp_path / 'views'}",
        "count=2",
    ]
    words = ["devices", "calibrate", "capture", "camera=opencv", *settings, *BOARD]
    assert command.main(words) == 0
    assert sorted(path.name for path in (tmp_path / "views").iterdir()) == ["000.png", "001.png"]
    assert "2 of 2" in capsys.readouterr().out
    assert (
        command.main(["devices", "calibrate", "capture", f"target={tmp_path / 'more'}"])
        == command.NOT_UNDERSTOOD
    )
    assert "robot=... or camera=..." in capsys.readouterr().err


def test_intrinsics_and_hand_eye_from_captured_views(arm, captured, capsys, tmp_path):
    runs, intrinsics, hand_eye = tmp_path / "runs", tmp_path / "intrinsics.json", tmp_path / "hand_eye.json"
    words = [f"images={captured}", f"runs={runs}", *BOARD]
    assert command.main(["devices", "calibrate", "camera", *words, f"output={intrinsics}"]) == 0
    assert "found in 24 of 24 images" in capsys.readouterr().out
    truth = arm.world.intrinsics("camera1").matrix
    np.testing.assert_allclose(
        load_intrinsics(intrinsics).matrix[:2, :2], truth[:2, :2], rtol=0.02, atol=1e-9
    )
    (folder,) = (runs / "devices-calibrate").glob("*-camera")
    text = (folder / "report.html").read_text()
    assert text.count("data:image/jpeg") == json.loads((folder / "summary.json").read_text())["views"]
    words += [f"intrinsics={intrinsics}", f"output={hand_eye}"]
    assert command.main(["devices", "calibrate", "hand_eye", *words]) == 0
    found = load_hand_eye(hand_eye).camera
    error = pose_to_vector(relative_pose(arm.world.camera_in_tool("camera1"), found))
    print(f"{1e3 * np.linalg.norm(error[:3]):.2f} mm, {np.degrees(np.linalg.norm(error[3:])):.2f} degrees")
    assert np.linalg.norm(error[:3]) < 0.004
    assert np.degrees(np.linalg.norm(error[3:])) < 1.0
    (folder,) = (runs / "devices-calibrate").glob("*-hand_eye")
    assert "Daniilidis" in (folder / "report.html").read_text()


def test_mistakes_are_one_line(captured, capsys, tmp_path):
    mistakes = {
        "board target=board.tiff": ".pdf or .png",
        "camera images=/nowhere": "no images",
        f"camera images={captured} board.squares_x=11 board.dictionary=6X6_100": "board.dictionary",
        f"hand_eye images={captured} intrinsics=/nowhere": "calibrate camera images=FOLDER",
        "capture robot=sim target=x image=camera2_rgb": "camera1_rgb",
    }
    for words, hint in mistakes.items():
        more = [f"runs={tmp_path / 'runs'}", "name=wrong"]
        words = words.replace("target=x", f"target={tmp_path / 'x'}")
        assert command.main(["devices", "calibrate", *words.split(), *more]) == command.FAILED
        error = capsys.readouterr().err
        assert hint in error
        assert len(error.splitlines()) == 1
    assert not list((tmp_path / "runs" / "devices-calibrate").iterdir())
