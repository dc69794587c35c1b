"""Dense layers of norm at most one: by the largest singular value, or by almost-orthogonal columns.

Both take any free weight W to one that is used. Neither notices the scale of W.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robopolicy.nets.lipschitz.module import MARGIN, LipschitzModule, finite, plain_linear, spectral_norm


class LipschitzLinear(LipschitzModule):
    """A dense layer whose weight is computed from a free one, and has norm at most one.

    Args:
        inputs: features in the input.
        outputs: features in the output.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.orthogonal_(self.weight)

    @abstractmethod
    def used_weight(self) -> Tensor:
        """Returns the weight ``[outputs, inputs]`` of evaluation mode."""

    def training_weight(self) -> Tensor:
        """Returns the weight ``[outputs, inputs]`` of training mode."""
        return self.used_weight()

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[..., inputs]`` to ``[..., outputs]``."""
        return F.linear(x, self.training_weight() if self.training else self.used_weight(), self.bias)

    def lipschitz_bound(self) -> float:
        """Returns the norm of the weight, at most 1."""
        return spectral_norm(self.used_weight())

    def fold(self) -> nn.Linear:
        """Returns ``nn.Linear`` with the weight that is used."""
        return plain_linear(self.used_weight(), self.bias)


class SpectralLinear(LipschitzLinear):
    """Divides the weight by its largest singular value (Miyato et al. 2018).

    Training follows the singular vectors by one power iteration a step; evaluation, bound and fold take them
    from an exact decomposition in float64.
    """

    left: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("left", F.normalize(torch.randn(outputs), dim=0))

    def used_weight(self) -> Tensor:
        """Returns the weight ``[outputs, inputs]`` divided by its exact norm."""
        scaled = unit_scale(self.weight)
        with torch.no_grad():
            left, _, right = torch.linalg.svd(finite(scaled.double()), full_matrices=False)
        return _divide(scaled, left[:, 0].to(scaled), right[0].to(scaled))

    def training_weight(self) -> Tensor:
        """Returns the weight divided by its norm as one more power iteration estimates it."""
        scaled = unit_scale(self.weight)
        with torch.no_grad():
            right = F.normalize(scaled.T @ self.left, dim=0)
            self.left.copy_(F.normalize(scaled @ right, dim=0))
        return _divide(scaled, self.left.clone(), right)


class AolLinear(LipschitzLinear):
    """Scales the columns, or the rows where these are fewer, so that the norm is at most one.

    "Almost-Orthogonal Layers", Prach and Lampert 2022. Exact for orthogonal columns, safe for any.
    """

    def used_weight(self) -> Tensor:
        """Returns the scaled weight ``[outputs, inputs]``."""
        outputs, inputs = self.weight.shape
        return aol_columns(self.weight) if inputs <= outputs else aol_columns(self.weight.T).T


def unit_scale(weight: Tensor) -> Tensor:
    """Divides by the largest absolute entry, a constant for autograd: for functions that ignore the scale."""
    return weight / weight.detach().abs().max().clamp_min(torch.finfo(weight.dtype).tiny)


def aol_columns(weight: Tensor, log_shares: Tensor | None = None) -> Tensor:
    """Scales the columns of W so that its norm is at most one: ``W T^-1/2``, T diagonal.

    ``T_ii = sum_j |W^T W|_ij q_j / q_i`` for any positive q makes ``T - W^T W`` diagonally dominant up to a
    similarity, hence positive semidefinite (Araujo et al. 2023; q = 1 in Prach and Lampert 2022).

    Args:
        weight: W ``[rows, columns]``.
        log_shares: log q ``[columns]``; None: q = 1.
    """
    scaled = unit_scale(weight)
    products = (scaled.T @ scaled).abs()
    if log_shares is None:
        sums = products.sum(1)
    else:
        shares = log_shares.clamp(-10, 10)
        sums = (products * torch.exp(shares - shares[:, None])).sum(1)
    return scaled * ((1 - MARGIN) * sums.clamp_min(torch.finfo(sums.dtype).tiny).rsqrt())


def _divide(weight: Tensor, left: Tensor, right: Tensor) -> Tensor:
    norm = left @ (weight @ right)
    return weight * ((1 - MARGIN) / norm.clamp_min(torch.finfo(weight.dtype).tiny))
