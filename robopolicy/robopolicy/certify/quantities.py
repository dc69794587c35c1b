"""A certificate in real units: what one metre or radian of error does, and how far it may go.

A policy's Lipschitz constants are of normalized, represented numbers. The way there is affine or of known
steepness: a number is divided by its scale; an angle as sine and cosine moves by at most itself; the first
two rows of a rotation matrix move by at most sqrt(2) times the angle of a rotation. Back from six numbers to
a rotation, Gram-Schmidt turns by at most ``-log(1 - d / s)`` when the numbers move by d, s being the smallest
singular value of the two rows before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

ROTATION_GAIN = math.sqrt(2.0)


@dataclass(frozen=True)
class ObservationQuantity:
    """A number or a rotation that the policy observes.

    Attributes:
        name: e.g. ``robot0_eef_pos[0]``.
        unit: e.g. ``m``; rotations and angles have ``rad``.
        gain: l2 length by which the normalized window changes when the quantity is wrong by up to one unit
            at every step of the window.
    """

    name: str
    unit: str
    gain: float


@dataclass(frozen=True)
class ActionQuantity:
    """A number or a rotation that the policy commands, in each row of the chunk.

    Attributes:
        name: e.g. ``position x``.
        unit: e.g. ``m``; rotations have ``rad``.
        numbers: which of the D represented action numbers it is made of.
        scale: by which they are multiplied.
        singular_value: of a rotation, the smallest of its two predicted rows; None for a number.
    """

    name: str
    unit: str
    numbers: tuple[int, ...]
    scale: float
    singular_value: float | None = None

    def gain(self, per_action: tuple[float, ...], chunk: float) -> float:
        """Returns how far its represented numbers move, in l2, when the normalized window moves by 1.

        Args:
            per_action: Lipschitz constants of each of the D represented numbers.
            chunk: of the whole chunk, which none of its parts exceeds.
        """
        together = math.sqrt(sum(per_action[number] ** 2 for number in self.numbers))
        return self.scale * min(together, chunk)

    def represented(self, tolerance: float) -> float:
        """Returns how far its represented numbers may move so that it moves by ``tolerance`` at most."""
        if self.singular_value is None:
            return tolerance
        return self.singular_value * -math.expm1(-tolerance)


def smallest_singular_value(rows: Tensor) -> float:
    """Returns the smallest singular value among pairs of predicted rotation rows ``[..., 6]``; 1 is ideal."""
    pairs = rows.detach().double().unflatten(-1, (2, 3))
    return float(torch.linalg.svdvals(pairs)[..., -1].min())
