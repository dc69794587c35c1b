"""What a camera of a model is to someone who computes with its images: intrinsics, and where it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from robopolicy_datasets.geometry import Array, pose_matrix, quaternion_to_matrix

_TURN = np.diag([1.0, -1.0, -1.0])  # MuJoCo's cameras look along -z with y up, OpenCV's along z with y down


@dataclass(frozen=True)
class CameraParameters:
    """A pinhole camera without distortion, as OpenCV has it: x to the right of the image, y down, z ahead.

    Attributes:
        intrinsics: the matrix ``[3, 3]`` [px]; pixel (0, 0) has its center at (0, 0).
        frame: what it is fixed to: ``"world"``, or the name of a body of the model.
        pose: of the camera in that frame ``[4, 4]`` [m].
    """

    intrinsics: Array
    frame: str
    pose: Array

    def to_json(self) -> dict[str, Any]:
        """Returns plain data for a JSON file."""
        return {"intrinsics": self.intrinsics.tolist(), "frame": self.frame, "pose": self.pose.tolist()}


def camera_parameters(model: Any, camera: int, width: int, height: int) -> CameraParameters:
    """Returns what a camera of a ``mujoco.MjModel`` is, for images of a size [px]."""
    focal = 0.5 * height / np.tan(0.5 * np.radians(model.cam_fovy[camera]))
    center = 0.5 * np.array([width - 1, height - 1])
    intrinsics = np.array([[focal, 0.0, center[0]], [0.0, focal, center[1]], [0.0, 0.0, 1.0]])
    rotation = quaternion_to_matrix(model.cam_quat[camera]) @ _TURN
    frame = model.body(int(model.cam_bodyid[camera])).name
    return CameraParameters(intrinsics, frame, pose_matrix(model.cam_pos[camera], rotation))


def camera_pose(data: Any, camera: int) -> Array:
    """Returns where a camera is in the world now ``[4, 4]`` [m], as OpenCV has it."""
    return pose_matrix(data.cam_xpos[camera], data.cam_xmat[camera].reshape(3, 3) @ _TURN)
