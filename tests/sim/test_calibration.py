"""Calibration from renderings: a board on the table seen by the wrist camera, the truth known."""

import numpy as np
import pytest
from board_world import BoardWorld

from robopolicy_datasets.geometry import pose_to_vector, relative_pose
from robopolicy_drivers.calibration.boards import find_board, make_board
from robopolicy_drivers.calibration.configs import BoardConfig
from robopolicy_drivers.calibration.hand_eye import calibrate_hand_eye
from robopolicy_drivers.calibration.intrinsics import calibrate_intrinsics

CAMERA = "camera1"


@pytest.fixture(scope="module")
def world():
    return BoardWorld(make_board(BoardConfig(square=0.02, marker=0.015)))


@pytest.fixture(scope="module")
def fit(world):
    views, _ = world.views(CAMERA, 30, 20)
    return calibrate_intrinsics(world.board, views, "now")


@pytest.fixture(scope="module")
def seen(world):
    return world.views(CAMERA, 20, 12)


def error(world, found):
    vector = pose_to_vector(relative_pose(world.camera_in_tool(CAMERA), found))
    return np.linalg.norm(vector[:3]), np.degrees(np.linalg.norm(vector[3:]))


def test_corners_are_found_where_they_are_projected(world):
    world.move(world.home)
    view = find_board(world.board, world.image(CAMERA), "home")
    pose = world.board_in_camera(CAMERA)
    points = world.board.points @ pose[:3, :3].T + pose[:3, 3]
    errors = view.corners - world.intrinsics(CAMERA).project(points)[view.ids]
    assert np.abs(errors).max() < 0.5
    assert np.abs(errors.mean(axis=0)).max() < 0.1


def test_intrinsics_within_one_per_cent(world, fit, record_property):
    truth = world.intrinsics(CAMERA)
    focal = fit.intrinsics.matrix[0, 0] / truth.matrix[0, 0] - 1
    record_property("focal error", float(focal))
    print(f"focal length {100 * focal:+.2f} %, rms {fit.intrinsics.rms:.2f} px")
    np.testing.assert_allclose(fit.intrinsics.matrix, truth.matrix, rtol=0.01, atol=1e-9)


def test_hand_eye_with_the_true_intrinsics(world, seen, record_property):
    found = calibrate_hand_eye(world.board, *seen, world.intrinsics(CAMERA), mount="hand", measured="now")
    distance, angle = error(world, found.hand_eye.camera)
    print(f"{1e3 * distance:.3f} mm, {angle:.4f} degrees, {found.method}")
    assert distance < 0.0005
    assert angle < 0.1


def test_hand_eye_with_the_calibrated_intrinsics(world, seen, fit):
    found = calibrate_hand_eye(world.board, *seen, fit.intrinsics, mount="hand", measured="now")
    distance, angle = error(world, found.hand_eye.camera)
    print(f"{1e3 * distance:.3f} mm, {angle:.4f} degrees, {found.method}")
    assert distance < 0.002
    assert angle < 0.3
