"""SE(3) in torch, batched and differentiable: the twin of ``robopolicy_datasets.geometry``.

Rotation matrices map from the body to the parent frame; ``rot6d`` is the first two *rows*.
Products are written out by element: under autocast a matrix product would be computed in bfloat16.
"""

from __future__ import annotations

import torch
from torch import Tensor


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Converts axis-angle vectors ``[..., 3]`` [rad] to rotation matrices (Rodrigues), smooth at zero."""
    identity = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    squared = axis_angle.square().sum(-1)[..., None, None]
    small = squared < 1e-8
    safe = torch.where(small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    sine = torch.where(small, 1 - squared / 6, angle.sin() / angle)
    # (1 - cos) / angle^2 without its cancellation
    cosine = 0.5 * torch.where(small, 1 - squared / 12, ((angle / 2).sin() / (angle / 2)).square())
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    skew_squared = axis_angle[..., :, None] * axis_angle[..., None, :] - squared * identity
    return identity + sine * skew + cosine * skew_squared


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Converts rotation matrices ``[..., 3, 3]`` to unit quaternions ``[..., 4]`` (wxyz, w >= 0)."""
    m = matrix
    diagonal = m.diagonal(dim1=-2, dim2=-1)
    trace = diagonal.sum(-1, keepdim=True)
    # four times the square of each component; the largest one is safe to divide by
    squared = torch.cat([1 + trace, 1 - trace + 2 * diagonal], dim=-1)
    magnitude = squared.clamp_min(1e-12).sqrt()
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    s = squared
    candidates = torch.stack(
        [
            torch.stack([s[..., 0], wx, wy, wz], dim=-1),
            torch.stack([wx, s[..., 1], xy, xz], dim=-1),
            torch.stack([wy, xy, s[..., 2], yz], dim=-1),
            torch.stack([wz, xz, yz, s[..., 3]], dim=-1),
        ],
        dim=-2,
    ) / (2 * magnitude[..., None])
    best = magnitude.argmax(-1)[..., None, None].expand(*magnitude.shape[:-1], 1, 4)
    quaternion = candidates.gather(-2, best).squeeze(-2)
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """Converts rotation matrices ``[..., 3, 3]`` to axis-angle ``[..., 3]`` [rad], angle in [0, pi]."""
    quaternion = matrix_to_quaternion(matrix)
    vector = quaternion[..., 1:]
    norm = vector.norm(dim=-1, keepdim=True)
    half = torch.atan2(norm, quaternion[..., :1])
    small = norm < 1e-6
    scale = torch.where(small, torch.full_like(norm, 2.0), 2 * half / norm.clamp_min(1e-6))
    return vector * scale


def matrix_to_rot6d(matrix: Tensor) -> Tensor:
    """Returns the first two rows ``[..., 6]`` of rotation matrices ``[..., 3, 3]``."""
    return matrix[..., :2, :].flatten(-2)


def rot6d_to_matrix(rot6d: Tensor) -> Tensor:
    """Converts ``[..., 6]`` (two rows, need not be orthonormal) to rotation matrices by Gram-Schmidt."""
    first, second = rot6d[..., :3], rot6d[..., 3:]
    first = torch.nn.functional.normalize(first, dim=-1)
    second = second - (first * second).sum(-1, keepdim=True) * first
    second = torch.nn.functional.normalize(second, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-2)


def pose_matrix(position: Tensor, rotation: Tensor) -> Tensor:
    """Builds transforms ``[..., 4, 4]`` from positions ``[..., 3]`` [m] and matrices ``[..., 3, 3]``."""
    top = torch.cat([rotation, position[..., None]], dim=-1)
    bottom = torch.zeros_like(top[..., :1, :])
    bottom[..., 3] = 1.0
    return torch.cat([top, bottom], dim=-2)


def invert_pose(pose: Tensor) -> Tensor:
    """Inverts rigid transforms ``[..., 4, 4]``."""
    rotation = pose[..., :3, :3].transpose(-1, -2)
    position = -(rotation * pose[..., None, :3, 3]).sum(-1)
    return pose_matrix(position, rotation)


def compose_poses(first: Tensor, second: Tensor) -> Tensor:
    """Returns ``first @ second`` of rigid transforms ``[..., 4, 4]``."""
    return (first[..., :, :, None] * second[..., None, :, :]).sum(-2)


def relative_pose(base: Tensor, pose: Tensor) -> Tensor:
    """Returns ``inv(base) @ pose``: ``pose`` seen from ``base`` (UMI's "relative")."""
    return compose_poses(invert_pose(base), pose)
