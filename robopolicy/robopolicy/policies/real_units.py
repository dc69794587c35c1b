"""What a policy observes and commands as single quantities in real units, for its certificate."""

from __future__ import annotations

import math

from torch import Tensor

from robopolicy.certify.quantities import (
    ROTATION_GAIN,
    ActionQuantity,
    ObservationQuantity,
    smallest_singular_value,
)
from robopolicy.policies.chunk_policy import ChunkPolicy
from robopolicy.policies.representation import ROTATION_SIZE, is_history, observation_size
from robopolicy_datasets.spec import Feature

POSE_SIZE = 10  # represented numbers of one arm: position, two rotation rows, gripper width


def observation_quantities(policy: ChunkPolicy) -> list[ObservationQuantity]:
    """Returns the quantities that a policy observes, in the order of its Spec.

    What a net of its own encodes (images, histories of a fast sensor) is none, nor is a sentence.
    """
    found = []
    for feature in policy.spec.observation:
        if not is_encoded(feature) and feature.kind != "language":
            found += _observed(policy, feature)
    return found


def is_encoded(feature: Feature) -> bool:
    """Whether a net of its own encodes a feature for the window: an image, or a history of samples."""
    return feature.is_image or is_history(feature)


def action_quantities(policy: ChunkPolicy, chunks: Tensor) -> list[ActionQuantity]:
    """Returns the quantities that a policy commands.

    Args:
        policy: the policy.
        chunks: some of its normalized chunks ``[N, Tp, D]``, which show how near to a rotation its rows are.
    """
    action = policy.action
    scales = policy.normalizer.scale("action").tolist()
    if not action.is_pose:
        names = _numbered(action.feature.key, action.size)
        return [
            ActionQuantity(name, action.feature.unit, (number,), scales[number])
            for number, name in enumerate(names)
        ]
    found = []
    for arm in range(action.arms):
        first = arm * POSE_SIZE
        prefix = f"robot{arm} " if action.arms > 1 else ""
        rows = range(first + 3, first + 3 + ROTATION_SIZE)
        singular_value = smallest_singular_value(chunks[..., rows.start : rows.stop])
        found += [
            ActionQuantity(f"{prefix}{axis}", "m", (first + n,), scales[first + n])
            for n, axis in enumerate("xyz")
        ]
        found.append(ActionQuantity(f"{prefix}rotation", "rad", tuple(rows), 1.0, singular_value))
        found.append(ActionQuantity(f"{prefix}width", "m", (first + 9,), scales[first + 9]))
    return found


def _observed(policy: ChunkPolicy, feature: Feature) -> list[ObservationQuantity]:
    window = math.sqrt(policy.observation_steps)
    if feature.kind == "axis_angle":  # its numbers are no quantities one by one; they are not scaled
        names = _numbered(feature.key, feature.size // 3)
        return [ObservationQuantity(name, "rad", window * ROTATION_GAIN) for name in names]
    if feature.kind == "angle":
        return [ObservationQuantity(name, "rad", window) for name in _numbered(feature.key, feature.size)]
    scales = policy.normalizer.scale(feature.key).tolist()
    names = _numbered(feature.key, observation_size(feature))
    return [
        ObservationQuantity(name, feature.unit, window / scale)
        for name, scale in zip(names, scales, strict=True)
    ]


def _numbered(key: str, count: int) -> list[str]:
    return [key] if count == 1 else [f"{key}[{number}]" for number in range(count)]
