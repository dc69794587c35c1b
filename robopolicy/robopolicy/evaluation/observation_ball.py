"""Small moves of a policy's observations, measured in the numbers that its net sees.

The size of a move is the Euclidean norm over all represented, normalized low-dimensional numbers of an
observation window: the norm in which Lipschitz certificates speak. The move itself is made of real
observations, so that the policy still sees proper angles and rotations: these turn, on their own manifold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from robopolicy import geometry
from robopolicy.policies.normalizer import Normalizer
from robopolicy.policies.representation import represent_observation
from robopolicy_datasets.errors import SpecError
from robopolicy_datasets.spec import Feature, Spec


class ObservationBall:
    """Moves windows of observations by no more than a given size.

    A move is a vector of free numbers, one for each real number of the movable features, scaled such that
    its norm is the size of the move: exactly for numbers that are only scaled; for angles and rotations the
    norm is the length of the arc, of which the size is the chord, so that the size never exceeds it.

    Args:
        spec: of the policy.
        steps: observations in a window (To).
        normalizer: of the policy; it leaves sines, cosines and rotation rows as they are.

    Raises:
        SpecError: there is no feature that can be moved: images, whole numbers and sentences cannot.
    """

    def __init__(self, spec: Spec, steps: int, normalizer: Normalizer) -> None:
        self.features: Sequence[Feature] = [
            feature
            for feature in spec.observation
            if not feature.is_image
            and feature.kind != "language"  # a sentence is said, not measured
            and np.issubdtype(np.dtype(feature.dtype), np.floating)
        ]
        if not self.features:
            raise SpecError(
                "There is no observation that could be disturbed within a ball: the policy sees "
                f"{', '.join(feature.key for feature in spec.observation)}, none of them measured numbers. "
                "Disturb its images (disturbance=image_noise)."
            )
        self._steps = steps
        self._normalizer = normalizer

    @property
    def dimension(self) -> int:
        """Free numbers of a move."""
        return self._steps * sum(feature.size for feature in self.features)

    def move(self, observation: Mapping[str, Tensor], by: Tensor) -> dict[str, Tensor]:
        """Returns the moved observations; features that cannot be moved are the same.

        Args:
            observation: ``{key: [B, To, *shape]}``.
            by: the moves ``[B, dimension]``; the result is differentiable with respect to them.
        """
        moved = dict(observation)
        device = observation[self.features[0].key].device
        per_step = by.double().to(device).unflatten(-1, (self._steps, -1))
        parts = per_step.split([feature.size for feature in self.features], dim=-1)
        for feature, part in zip(self.features, parts, strict=True):
            value = observation[feature.key]
            change = _MOVES.get(feature.kind, self._shifted)
            moved[feature.key] = change(feature, value.double(), part).reshape(value.shape).to(value.dtype)
        return moved

    def _shifted(self, feature: Feature, value: Tensor, by: Tensor) -> Tensor:
        """Numbers that are only scaled move along."""
        seen = self._normalizer.normalize(feature.key, represent_observation(feature, value))
        return self._normalizer.unnormalize(feature.key, seen + by.reshape(seen.shape))


def _turned_angle(feature: Feature, value: Tensor, by: Tensor) -> Tensor:
    """An angle turns; sine and cosine move along the unit circle."""
    return value + by.reshape(value.shape)


def _turned_rotation(feature: Feature, value: Tensor, by: Tensor) -> Tensor:
    """A rotation turns in its own frame; the net sees the two first rows of its matrix.

    A small turn w moves each row r by w x r, so the two rows by sqrt(|w|^2 + (w . r3)^2): turns about the
    third row count sqrt(2) times as much as others and are shortened by as much.
    """
    turn = by.unflatten(-1, (-1, 3))
    matrix = geometry.axis_angle_to_matrix(value.reshape(turn.shape))
    third = matrix[..., 2, :]
    turn = turn - (1 - math.sqrt(0.5)) * (turn * third).sum(-1, keepdim=True) * third
    turned = matrix @ geometry.axis_angle_to_matrix(turn)
    return geometry.matrix_to_axis_angle(turned)


_MOVES = {"angle": _turned_angle, "axis_angle": _turned_rotation}
"""How features of a kind that is not only scaled are moved."""
