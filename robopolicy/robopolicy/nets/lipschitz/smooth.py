"""The SLL layer with a smooth activation: nearly linear where its weights are small."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robopolicy.nets.lipschitz.module import LipschitzModule, plain_linear, spectral_norm
from robopolicy.nets.lipschitz.weights import column_factors

_FIRST_SLOPE = 0.22  # norm of a hidden unit's first weights: tanh bends inputs of a few units only slightly


class TanhSllLinear(LipschitzModule):
    """``x - 2 W T^-1 tanh(W^T x + b)`` with T >= W^T W diagonal, 1-Lipschitz for slopes in [0, 1].

    The layer of Araujo et al. 2023 with tanh. T makes up for the scale of W in front of the activation, not
    inside it: small weights give a linear layer of full strength. Weight decay thus takes the curvature out
    of the net and leaves its slopes alone, which is what few and noisy demonstrations need.

    Args:
        features: in input and output, and of the inner layer.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(features, features))
        self.log_shares = nn.Parameter(torch.zeros(features))
        self.bias = nn.Parameter(torch.zeros(features))
        nn.init.normal_(self.weight, std=_FIRST_SLOPE / math.sqrt(features))

    def used_scale(self) -> Tensor:
        """Returns ``2 T^-1``, a vector ``[hidden]``."""
        return 2 * column_factors(self.weight, self.log_shares).square()

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[..., features]`` to the same shape."""
        hidden = torch.tanh(F.linear(x, self.weight.T, self.bias))
        return x - F.linear(self.used_scale() * hidden, self.weight)

    def lipschitz_bound(self) -> float:
        """Returns 1, or what rounding of the weights makes of it."""
        return self.fold().lipschitz_bound()

    def fold(self) -> PlainTanhSll:
        """Returns the residual block of one plain weight, which is used twice."""
        return PlainTanhSll(plain_linear(self.weight.T, self.bias), self.used_scale().detach())


class PlainTanhSll(LipschitzModule):
    """``x - W^T (scale * tanh(W x + b))``: a folded ``TanhSllLinear``.

    Args:
        inner: the plain layer that holds W and b.
        scale: positive ``[hidden]``.
    """

    def __init__(self, inner: nn.Linear, scale: Tensor) -> None:
        super().__init__()
        self.inner = inner
        self.scale = nn.Parameter(scale.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[..., features]`` to the same shape."""
        return x - (self.scale * torch.tanh(self.inner(x))) @ self.inner.weight

    def lipschitz_bound(self) -> float:
        """Returns the bound for any W, as of ``PlainSll`` with ``V = W^T diag(scale / 2)^1/2``."""
        root = self.scale.detach().double().div(2).sqrt()
        largest = spectral_norm(root[:, None] * self.inner.weight.detach().double()) ** 2
        return math.sqrt(1 + 4 * largest * max(largest - 1, 0))

    def fold(self) -> PlainTanhSll:
        """Returns a copy: it is plain."""
        return PlainTanhSll(plain_linear(self.inner.weight, self.inner.bias), self.scale.detach())
