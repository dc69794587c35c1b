"""Sorting activations: 1-Lipschitz, and unlike ReLU they keep the length of every gradient.

Sources: Chernodub and Nowicki 2016 (norm-preserving orthogonal permutation units), Anil et al. 2019
(sorting out Lipschitz function approximation).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robopolicy.nets.lipschitz.module import LipschitzModule


class GroupSort(LipschitzModule):
    """Sorts each group of neighbouring features.

    Args:
        size: features in a group; it must divide the features.
        dim: dimension of the features.
    """

    def __init__(self, size: int, dim: int = -1) -> None:
        super().__init__()
        self.size, self.dim = size, dim

    def forward(self, x: Tensor) -> Tensor:
        """Maps a tensor to one of the same shape."""
        groups = x.movedim(self.dim, -1).unflatten(-1, (-1, self.size))
        return groups.sort(-1).values.flatten(-2).movedim(-1, self.dim)

    def lipschitz_bound(self) -> float:
        """Returns 1: sorting permutes, and brings no two vectors further apart."""
        return 1.0

    def fold(self) -> nn.Module:
        """Returns a copy: there are no weights."""
        return type(self)(self.size, self.dim)


class MaxMin(LipschitzModule):
    """Sorts pairs of features; a feature's partner is half of the features away, which makes it fast.

    Args:
        dim: dimension of the features, of which there must be an even number.
    """

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """Maps a tensor to one of the same shape."""
        first, second = x.unflatten(self.dim, (2, -1)).unbind(self.dim if self.dim >= 0 else self.dim - 1)
        return torch.cat([torch.maximum(first, second), torch.minimum(first, second)], self.dim)

    def lipschitz_bound(self) -> float:
        """Returns 1: sorting permutes, and brings no two vectors further apart."""
        return 1.0

    def fold(self) -> nn.Module:
        """Returns a copy: there are no weights."""
        return type(self)(self.dim)
