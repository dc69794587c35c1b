"""From a free weight to one of norm at most one: by its largest singular value, or almost orthogonal.

Neither way notices the scale of the free weight, so no step of an optimizer can break the bound.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robopolicy.nets.lipschitz.module import MARGIN, LipschitzModule, finite, full_precision


class NormalizedLayer(LipschitzModule):
    """A layer that computes the weight that it uses from a free one at every evaluation.

    Args:
        shape: of the weight, outputs first.
    """

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.zeros(shape[0]))
        nn.init.orthogonal_(self.weight)

    @abstractmethod
    def used_weight(self) -> Tensor:
        """Returns the weight of evaluation mode and of the fold."""

    def training_weight(self) -> Tensor:
        """Returns the weight of training mode."""
        return self.used_weight()

    def current_weight(self) -> Tensor:
        """Returns the weight of the mode that the layer is in."""
        return self.training_weight() if self.training else self.used_weight()


def unit_scale(weight: Tensor) -> Tensor:
    """Divides by the largest absolute entry, a constant for autograd: for functions that ignore the scale."""
    return weight / weight.detach().abs().max().clamp_min(torch.finfo(weight.dtype).tiny)


@full_precision
def spectral_exact(weight: Tensor) -> Tensor:
    """Divides a weight, seen as ``[outputs, everything else]``, by its exact largest singular value.

    Raises:
        RobopolicyError: an entry is not finite.
    """
    matrix = unit_scale(weight).flatten(1)
    with torch.no_grad():
        left, _, right = torch.linalg.svd(finite(matrix.double()), full_matrices=False)
    return _divide(matrix, left[:, 0].to(matrix), right[0].to(matrix)).view_as(weight)


@full_precision
def spectral_step(weight: Tensor, left: Tensor) -> Tensor:
    """Divides a weight by its largest singular value as one more power iteration estimates it.

    Args:
        weight: seen as ``[outputs, everything else]``.
        left: estimate of the left singular vector ``[outputs]``, updated in place.
    """
    matrix = unit_scale(weight).flatten(1)
    with torch.no_grad():
        right = F.normalize(matrix.T @ left, dim=0)
        left.copy_(F.normalize(matrix @ right, dim=0))
    return _divide(matrix, left.clone(), right).view_as(weight)


def aol_columns(weight: Tensor, log_shares: Tensor | None = None) -> Tensor:
    """Scales the columns of W so that its norm is at most one: ``W T^-1/2`` with T of ``column_factors``.

    Args:
        weight: W ``[rows, columns]``.
        log_shares: log q ``[columns]``; None: q = 1.
    """
    scaled = unit_scale(weight)
    return scaled * column_factors(scaled, log_shares)


@full_precision
def column_factors(weight: Tensor, log_shares: Tensor | None = None) -> Tensor:
    """Returns ``T^-1/2 [columns]`` for a diagonal T >= W^T W.

    ``T_ii = sum_j |W^T W|_ij q_j / q_i`` for any positive q makes ``T - W^T W`` diagonally dominant up to a
    similarity, hence positive semidefinite (Araujo et al. 2023; q = 1 in Prach and Lampert 2022).

    Args:
        weight: W ``[rows, columns]``.
        log_shares: log q ``[columns]``; None: q = 1.
    """
    products = (weight.T @ weight).abs()
    if log_shares is None:
        return aol_factors(products)
    shares = log_shares.clamp(-10, 10)
    return aol_factors(products * torch.exp(shares - shares[:, None]))


def aol_factors(products: Tensor) -> Tensor:
    """Returns ``T^-1/2 [n]`` for ``T_ii = sum_j products_ij``."""
    return (1 - MARGIN) * products.sum(1).clamp_min(torch.finfo(products.dtype).tiny).rsqrt()


def _divide(matrix: Tensor, left: Tensor, right: Tensor) -> Tensor:
    norm = left @ (matrix @ right)
    return matrix * ((1 - MARGIN) / norm.clamp_min(torch.finfo(matrix.dtype).tiny))
