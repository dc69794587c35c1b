"""SE(3) in numpy: rotation conversions and relative poses, batched over leading axes.

Rotation matrices map from the body to the parent frame. Quaternions are ``wxyz``. ``rot6d`` is the
first two *rows* of the matrix (UMI's choice; Zhou et al. 2019 use columns).
``robopolicy.geometry`` has the same functions for torch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.floating]


def axis_angle_to_matrix(axis_angle: Array) -> Array:
    """Converts axis-angle vectors ``[..., 3]`` [rad] to rotation matrices ``[..., 3, 3]``."""
    axis_angle = np.asarray(axis_angle, dtype=np.float64)
    flat = Rotation.from_rotvec(axis_angle.reshape(-1, 3)).as_matrix()
    return flat.reshape(*axis_angle.shape[:-1], 3, 3)


def matrix_to_axis_angle(matrix: Array) -> Array:
    """Converts rotation matrices ``[..., 3, 3]`` to axis-angle ``[..., 3]`` [rad], angle in [0, pi]."""
    matrix = np.asarray(matrix, dtype=np.float64)
    flat = Rotation.from_matrix(matrix.reshape(-1, 3, 3)).as_rotvec()
    return flat.reshape(*matrix.shape[:-2], 3)


def quaternion_to_matrix(quaternion: Array) -> Array:
    """Converts quaternions ``[..., 4]`` (wxyz, any non-zero norm) to rotation matrices ``[..., 3, 3]``."""
    quaternion = np.asarray(quaternion, dtype=np.float64)
    flat = Rotation.from_quat(quaternion.reshape(-1, 4), scalar_first=True).as_matrix()
    return flat.reshape(*quaternion.shape[:-1], 3, 3)


def matrix_to_quaternion(matrix: Array) -> Array:
    """Converts rotation matrices ``[..., 3, 3]`` to unit quaternions ``[..., 4]`` (wxyz, w >= 0)."""
    matrix = np.asarray(matrix, dtype=np.float64)
    flat = Rotation.from_matrix(matrix.reshape(-1, 3, 3)).as_quat(canonical=True, scalar_first=True)
    return flat.reshape(*matrix.shape[:-2], 4)


def matrix_to_rot6d(matrix: Array) -> Array:
    """Returns the first two rows ``[..., 6]`` of rotation matrices ``[..., 3, 3]``."""
    matrix = np.asarray(matrix)
    return matrix[..., :2, :].reshape(*matrix.shape[:-2], 6)


def rot6d_to_matrix(rot6d: Array) -> Array:
    """Converts ``[..., 6]`` (two rows, need not be orthonormal) to rotation matrices by Gram-Schmidt."""
    rot6d = np.asarray(rot6d, dtype=np.float64)
    first, second = rot6d[..., :3], rot6d[..., 3:]
    first = first / np.linalg.norm(first, axis=-1, keepdims=True)
    second = second - np.sum(first * second, axis=-1, keepdims=True) * first
    second = second / np.linalg.norm(second, axis=-1, keepdims=True)
    return np.stack([first, second, np.cross(first, second)], axis=-2)


def pose_matrix(position: Array, rotation: Array) -> Array:
    """Builds transforms ``[..., 4, 4]`` from positions ``[..., 3]`` and matrices ``[..., 3, 3]``."""
    position, rotation = np.asarray(position), np.asarray(rotation)
    pose = np.zeros((*rotation.shape[:-2], 4, 4), dtype=np.result_type(position, rotation, np.float64))
    pose[..., :3, :3] = rotation
    pose[..., :3, 3] = position
    pose[..., 3, 3] = 1.0
    return pose


def invert_pose(pose: Array) -> Array:
    """Inverts rigid transforms ``[..., 4, 4]``."""
    rotation_transposed = np.swapaxes(pose[..., :3, :3], -1, -2)
    position = -np.einsum("...ij,...j->...i", rotation_transposed, pose[..., :3, 3])
    return pose_matrix(position, rotation_transposed)


def relative_pose(base: Array, pose: Array) -> Array:
    """Returns ``inv(base) @ pose``: ``pose`` seen from ``base`` (UMI's "relative")."""
    return invert_pose(base) @ pose


def pose_from_vector(vector: Array) -> Array:
    """Builds transforms ``[..., 4, 4]`` from vectors ``[..., 6]`` of position [m] and axis-angle [rad]."""
    vector = np.asarray(vector)
    return pose_matrix(vector[..., :3], axis_angle_to_matrix(vector[..., 3:6]))


def pose_to_vector(pose: Array) -> Array:
    """Returns vectors ``[..., 6]`` of position [m] and axis-angle [rad] of transforms ``[..., 4, 4]``."""
    return np.concatenate([pose[..., :3, 3], matrix_to_axis_angle(pose[..., :3, :3])], axis=-1)
