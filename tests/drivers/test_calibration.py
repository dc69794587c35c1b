"""Boards on paper and in images; intrinsics and hand-eye from projected corners; what is refused."""

import json
import re
import zlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robopolicy_datasets.errors import ConfigError, DeviceError, UnknownNameError
from robopolicy_datasets.geometry import invert_pose, pose_from_vector, pose_to_vector
from robopolicy_drivers.calibration.boards import View, find_board, make_board, write_board
from robopolicy_drivers.calibration.configs import BoardConfig
from robopolicy_drivers.calibration.hand_eye import calibrate_hand_eye, load_hand_eye
from robopolicy_drivers.calibration.intrinsics import (
    CameraIntrinsics,
    calibrate_intrinsics,
    load_intrinsics,
)

BOARD = make_board(BoardConfig())
CENTRE = BOARD.points.mean(axis=0)
TRUTH = CameraIntrinsics(
    (800, 600),
    np.array([[620.0, 0, 410], [0, 625, 290], [0, 0, 1]]),
    np.array([-0.12, 0.05, 0.001, -0.0005, 0.0]),
    0.0,
    "2026-01-01T12:00:00+00:00",
)


def error(found, truth):
    """Distance [m] and angle [rad] between two poses."""
    vector = pose_to_vector(invert_pose(truth) @ found)
    return np.linalg.norm(vector[:3]), np.linalg.norm(vector[3:])


def board_in_camera(random, tilt=0.6):
    """A pose ``[4, 4]`` in which the board's middle is in front of the camera, turned up to ``tilt``."""
    turn = pose_from_vector(np.array([0, 0, 0, *random.uniform(-tilt, tilt, 2), random.uniform(-tilt, tilt)]))
    turn[:3, 3] = [*random.uniform(-0.1, 0.1, 2), random.uniform(0.35, 0.6)] - turn[:3, :3] @ CENTRE
    return turn


def view(pose, random, name="view", noise=0.1):
    """What a camera sees of the board at a pose, with noise [px], and without what lies outside the image."""
    corners = TRUTH.project(BOARD.points @ pose[:3, :3].T + pose[:3, 3])
    corners = corners + random.normal(0, noise, corners.shape)
    inside = ((corners >= 0) & (corners < TRUTH.size)).all(axis=1)
    return View(name, np.flatnonzero(inside), corners[inside], TRUTH.size)


def views(random, count, **keywords):
    return [view(board_in_camera(random, **keywords), random, f"view {number}") for number in range(count)]


# --- boards -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["charuco", "chessboard"])
def test_every_corner_of_a_printed_board_is_found_where_it_is(kind):
    board = make_board(BoardConfig(kind=kind))
    pattern = cv2.resize(board.pattern(), None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    square = 0.25 * board.pattern().shape[1] / board.config.squares_x
    found = find_board(board, np.pad(pattern, 60, constant_values=255), "print")
    assert found.ids.tolist() == list(range(len(board.points)))
    expected = board.points[:, :2] / board.config.square * square + 60 - 0.5
    np.testing.assert_allclose(found.corners, expected, atol=0.15)
    padded = np.pad(pattern, 60, constant_values=255)
    turned = find_board(board, np.ascontiguousarray(np.rot90(padded, 2)), "turned by 180 degrees")
    np.testing.assert_allclose(padded.shape[::-1] - turned.corners - 1, expected, atol=0.15)


def test_hidden_parts_do_not_matter_to_a_charuco_board():
    image = np.pad(BOARD.pattern(), 200, constant_values=255)
    image[:, image.shape[1] // 2 :] = 255
    found = find_board(BOARD, image, "half")
    assert 6 <= len(found.ids) < len(BOARD.points)
    assert find_board(BOARD, np.full((480, 640, 3), 255, np.uint8), "nothing") is None


def test_a_pdf_has_the_exact_size(tmp_path):
    write_board(BOARD, tmp_path / "board.pdf")
    content = (tmp_path / "board.pdf").read_bytes()
    width, height = map(float, re.search(rb"q ([\d.]+) 0 0 ([\d.]+) ", content).groups())
    assert width * 0.0254 / 72 == pytest.approx(9 * 0.028, abs=1e-6)
    assert height * 0.0254 / 72 == pytest.approx(6 * 0.028, abs=1e-6)
    assert b"/MediaBox [0 0 841.8898 595.2756]" in content  # A4, lying
    pixels = zlib.decompress(
        re.search(rb"FlateDecode /Length \d+ >>\nstream\n(.*)\nendstream", content, re.S)[1]
    )
    assert np.array_equal(np.frombuffer(pixels, np.uint8), BOARD.pattern().ravel())
    start = int(re.search(rb"startxref\n(\d+)", content)[1])
    assert content[start:].startswith(b"xref")
    for number, place in enumerate(re.findall(rb"(\d{10}) 00000 n", content), start=1):
        assert content[int(place) :].startswith(b"%d 0 obj" % number)


def test_a_board_larger_than_paper_and_a_png(tmp_path):
    board = make_board(BoardConfig(square=0.06, marker=0.045))
    write_board(board, tmp_path / "board.pdf")
    assert b"/MediaBox [0 0 1587.4016 1077.1654]" in (tmp_path / "board.pdf").read_bytes()  # 560 x 380 mm
    write_board(board, tmp_path / "board.png")
    assert find_board(board, cv2.imread(str(tmp_path / "board.png")), "png") is not None
    with pytest.raises(ConfigError, match=r"\.pdf or \.png"):
        write_board(board, tmp_path / "board.tiff")


def test_impossible_boards_are_refused():
    with pytest.raises(UnknownNameError, match="charuco"):
        BoardConfig(kind="charuko")
    with pytest.raises(ConfigError, match="smaller than their squares"):
        BoardConfig(marker=0.03)
    with pytest.raises(UnknownNameError, match="5X5_100"):
        make_board(BoardConfig(dictionary="5X5_101"))
    with pytest.raises(ConfigError, match="needs 88 markers"):
        make_board(BoardConfig(squares_x=16, squares_y=11, dictionary="4X4_50"))
    with pytest.raises(ConfigError, match="turned by 180 degrees"):
        make_board(BoardConfig(kind="chessboard", squares_x=8, squares_y=6))


# --- intrinsics ---------------------------------------------------------------------------------------------


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_intrinsics_are_recovered(seed):
    fit = calibrate_intrinsics(BOARD, views(np.random.default_rng(seed), 20), "now")
    np.testing.assert_allclose(fit.intrinsics.matrix, TRUTH.matrix, rtol=0.01, atol=4.0)
    assert fit.intrinsics.rms < 0.2
    assert fit.deviations["fx"] < 5.0
    assert not fit.dropped


def test_views_that_stand_out_are_left_out():
    random = np.random.default_rng(1)
    good = views(random, 14)
    wrong = view(board_in_camera(random), random, "moved", noise=3.0)
    fit = calibrate_intrinsics(BOARD, [*good[:7], wrong, *good[7:]], "now")
    assert list(fit.dropped) == ["moved"]
    assert set(fit.errors) == {view.name for view in good}


def test_degenerate_views_are_refused():
    random = np.random.default_rng(2)
    with pytest.raises(DeviceError, match="found in 5 images"):
        calibrate_intrinsics(BOARD, views(random, 5), "now")
    with pytest.raises(DeviceError, match="same direction"):
        calibrate_intrinsics(BOARD, views(random, 15, tilt=0.01), "now")
    other = replace(view(board_in_camera(random), random), size=(640, 480))
    with pytest.raises(DeviceError, match="different sizes"):
        calibrate_intrinsics(BOARD, [*views(random, 8), other], "now")


def test_where_views_are_missing_is_told():
    random = np.random.default_rng(3)
    poses = [board_in_camera(random) for _ in range(10)]
    for pose in poses:
        pose[:3, 3] += [0.18, 0.0, 0.1]
    fit = calibrate_intrinsics(BOARD, [view(pose, random, str(n)) for n, pose in enumerate(poses)], "now")
    assert "middle left" in fit.empty_parts()
    assert "middle right" not in fit.empty_parts()


def test_intrinsics_survive_their_file(tmp_path):
    (tmp_path / "a.json").write_text(TRUTH.to_json())
    again = load_intrinsics(tmp_path / "a.json")
    assert again.to_json() == TRUTH.to_json()
    content = json.loads(TRUTH.to_json())
    for wrong in ({"model": "fisheye"}, {"matrix": [1, 2]}, {"distortion": [float("nan")] * 5}, {"size": 3}):
        (tmp_path / "a.json").write_text(json.dumps({**content, **wrong}))
        with pytest.raises(ConfigError, match="holds no camera intrinsics"):
            load_intrinsics(tmp_path / "a.json")


# --- hand-eye -----------------------------------------------------------------------------------------------

CAMERA = pose_from_vector(np.array([0.04, -0.06, 0.08, 0.1, -0.2, 1.5]))
PLACE = pose_from_vector(np.array([0.5, 0.1, 0.02, 3.0, 0.2, -0.1]))


def robot_poses(seen, mount):
    """The tool's poses at which a camera at CAMERA sees the board at PLACE as it does."""
    moved = PLACE @ invert_pose(seen) @ invert_pose(CAMERA)
    return moved if mount == "hand" else invert_pose(moved)


@settings(max_examples=8)
@given(seed=st.integers(0, 10_000), mount=st.sampled_from(["hand", "beside"]))
def test_hand_eye_is_recovered(seed, mount):
    random = np.random.default_rng(seed)
    seen = np.array([board_in_camera(random) for _ in range(16)])
    shown = [view(pose, random) for pose in seen]
    fit = calibrate_hand_eye(BOARD, shown, robot_poses(seen, mount), TRUTH, mount=mount, measured="now")
    distance, angle = error(fit.hand_eye.camera, CAMERA)
    assert distance < 0.001
    assert angle < np.radians(0.1)
    assert fit.rms < 0.2
    assert fit.scores[fit.method] == min(fit.scores.values())
    assert error(fit.hand_eye.board, PLACE)[0] < 0.002


def test_one_axis_of_rotation_is_refused():
    random = np.random.default_rng(0)
    turns = [pose_from_vector(np.array([0, 0, 0, 0, 0, angle])) for angle in np.linspace(-0.6, 0.6, 12)]
    poses = np.array([PLACE @ turn for turn in turns])
    shown = views(random, 12)
    with pytest.raises(DeviceError, match="one axis only"):
        calibrate_hand_eye(BOARD, shown, poses, TRUTH, mount="hand", measured="now")


def test_what_hand_eye_cannot_use_is_refused():
    random = np.random.default_rng(0)
    seen = np.array([board_in_camera(random) for _ in range(8)])
    shown, poses = [view(pose, random) for pose in seen], robot_poses(seen, "hand")
    with pytest.raises(DeviceError, match="7 views of the board and 7 robot poses"):
        calibrate_hand_eye(BOARD, shown[1:], poses[1:], TRUTH, mount="hand", measured="now")
    with pytest.raises(UnknownNameError, match="beside"):
        calibrate_hand_eye(BOARD, shown, poses, TRUTH, mount="besides", measured="now")
    small = replace(TRUTH, size=(400, 300))
    with pytest.raises(ConfigError, match="another size"):
        calibrate_hand_eye(BOARD, shown, poses, small, mount="hand", measured="now")


def test_hand_eye_survives_its_file(tmp_path):
    random = np.random.default_rng(0)
    seen = np.array([board_in_camera(random) for _ in range(8)])
    shown = [view(pose, random) for pose in seen]
    fit = calibrate_hand_eye(BOARD, shown, robot_poses(seen, "hand"), TRUTH, mount="hand", measured="now")
    (tmp_path / "a.json").write_text(fit.hand_eye.to_json())
    again = load_hand_eye(tmp_path / "a.json")
    np.testing.assert_allclose(again.camera, fit.hand_eye.camera, atol=1e-12)
    (tmp_path / "a.json").write_text('{"version": 1, "mount": "foot"}')
    with pytest.raises(ConfigError, match="does not say where a camera sits"):
        load_hand_eye(tmp_path / "a.json")
