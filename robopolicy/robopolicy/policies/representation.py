"""How features become the numbers that a net sees, and how its numbers become actions again.

The representation follows from each feature's *kind*: rotations become rot6d, angles become sine and
cosine, poses in actions are taken relative to the newest observed pose (UMI, Chi et al. 2024), all else
is kept. Rotational numbers are already of unit size, and sentences are made so: neither is normalized.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from robopolicy import geometry
from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_datasets.history import sample_of
from robopolicy_datasets.spec import Feature, Spec

ROTATION_SIZE = 6


def observation_size(feature: Feature) -> int:
    """Returns how many numbers the net sees of one sample of a low-dimensional feature.

    Of a feature that holds several samples (``is_history``) it is the numbers of one of them.

    Raises:
        SpecError: an axis-angle feature is not made of vectors of three.
    """
    if feature.kind == "axis_angle" and feature.size % 3:
        raise SpecError(f"An axis_angle feature has 3 numbers per rotation; this one: {feature.describe()}.")
    if is_history(feature):
        return observation_size(sample_of(feature))
    return {"axis_angle": 2 * feature.size, "angle": 2 * feature.size}.get(feature.kind, feature.size)


def is_rotational(feature: Feature) -> bool:
    """Whether the represented feature is made of sines, cosines or rotation rows."""
    return feature.kind in ("axis_angle", "angle")


def has_unit_size(feature: Feature) -> bool:
    """Whether the represented feature needs no normalization."""
    return is_rotational(feature) or feature.kind == "language"


def is_history(feature: Feature) -> bool:
    """Whether one observation holds the newest samples ``[n, size]`` of a faster sensor."""
    return feature.history or (feature.kind == "wrench" and len(feature.shape) == 2)


def represent_observation(feature: Feature, value: Tensor) -> Tensor:
    """Maps ``[..., *shape]`` of a low-dimensional feature to ``[..., observation_size]``.

    The samples of a history stay apart, ``[..., n, observation_size]``.
    """
    if is_history(feature):
        return represent_observation(sample_of(feature), value)
    flat = value.flatten(value.dim() - len(feature.shape)) if feature.shape else value[..., None]
    if feature.kind == "axis_angle":
        vectors = flat.unflatten(-1, (-1, 3))
        return geometry.matrix_to_rot6d(geometry.axis_angle_to_matrix(vectors)).flatten(-2)
    if feature.kind == "angle":
        return torch.cat([flat.sin(), flat.cos()], dim=-1)
    if feature.kind == "language":
        return flat * math.sqrt(feature.size)  # each number about as large as a normalized one
    return flat


class ActionRepresentation:
    """The action as the net sees it.

    A ``pose_width`` action ``[x, y, z, axis-angle, width]`` (7 per arm) becomes position, rot6d and width
    (10 per arm), relative to the observed pose of the same arm or absolute. Other kinds stay as they are.

    Args:
        spec: the policy's Spec.
        pose_representation: ``relative`` or ``absolute``.

    Raises:
        ConfigError: an unknown representation.
        SpecError: the action has a form that is not known, or relative poses lack the observed pose.
    """

    def __init__(self, spec: Spec, pose_representation: str) -> None:
        if pose_representation not in ("relative", "absolute"):
            raise ConfigError(
                f"policy.pose_representation is '{pose_representation}'. Allowed: 'relative', 'absolute'."
            )
        if len(spec.action) != 1 or len(spec.action[0].shape) != 1:
            raise SpecError(
                "A chunk policy needs exactly one action feature, a vector; the Spec has: "
                + ("; ".join(feature.describe() for feature in spec.action) or "none")
            )
        self.feature = spec.action[0]
        self.is_pose = self.feature.kind == "pose_width"
        self.relative = self.is_pose and pose_representation == "relative"
        self.arms = self.feature.size // 7 if self.is_pose else 0
        if self.is_pose and self.feature.size != 7 * self.arms:
            raise SpecError(
                f"A pose_width action has 7 numbers per arm; this one: {self.feature.describe()}."
            )
        if self.relative:
            for key in [name for arm in range(self.arms) for name in self._pose_keys(arm)]:
                if key not in [feature.key for feature in spec.observation]:
                    raise SpecError(
                        f"Relative actions need the observation '{key}'. Add it to observation_keys, or set "
                        "pose_representation=absolute."
                    )

    @staticmethod
    def _pose_keys(arm: int) -> tuple[str, str]:
        return f"robot{arm}_eef_pos", f"robot{arm}_eef_rot_axis_angle"

    @property
    def size(self) -> int:
        """Numbers in one represented action."""
        return 10 * self.arms if self.is_pose else self.feature.size

    def rotational(self) -> Tensor:
        """Returns a mask ``[size]`` of the numbers that are rotation rows."""
        if not self.is_pose:
            return torch.zeros(self.size, dtype=torch.bool)
        return torch.tensor(([False] * 3 + [True] * ROTATION_SIZE + [False]) * self.arms)

    def base(self, observation: Mapping[str, Tensor]) -> Tensor | None:
        """Returns the newest observed poses ``[B, arms, 4, 4]``, or ``None`` where actions are absolute."""
        if not self.relative:
            return None
        poses = []
        for arm in range(self.arms):
            position, rotation = (observation[key][:, -1].float() for key in self._pose_keys(arm))
            poses.append(geometry.pose_matrix(position, geometry.axis_angle_to_matrix(rotation)))
        return torch.stack(poses, dim=1)

    def encode(self, action: Tensor, base: Tensor | None) -> Tensor:
        """Maps actions ``[B, T, A]`` to their representation ``[B, T, size]``."""
        if not self.is_pose:
            return action
        arms = action.unflatten(-1, (self.arms, 7))
        pose = geometry.pose_matrix(arms[..., :3], geometry.axis_angle_to_matrix(arms[..., 3:6]))
        if base is not None:
            pose = geometry.relative_pose(base[:, None], pose)
        rot6d = geometry.matrix_to_rot6d(pose[..., :3, :3])
        return torch.cat([pose[..., :3, 3], rot6d, arms[..., 6:]], dim=-1).flatten(-2)

    def decode(self, represented: Tensor, base: Tensor | None) -> Tensor:
        """Maps representations ``[B, T, size]`` back to actions ``[B, T, A]``."""
        if not self.is_pose:
            return represented
        arms = represented.unflatten(-1, (self.arms, 10))
        pose = geometry.pose_matrix(arms[..., :3], geometry.rot6d_to_matrix(arms[..., 3:9]))
        if base is not None:
            pose = geometry.compose_poses(base[:, None], pose)
        axis_angle = geometry.matrix_to_axis_angle(pose[..., :3, :3])
        return torch.cat([pose[..., :3, 3], axis_angle, arms[..., 9:]], dim=-1).flatten(-2)
