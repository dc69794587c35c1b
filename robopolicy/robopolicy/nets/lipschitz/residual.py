"""The SLL layer: a 1-Lipschitz residual block, and its plain form."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robopolicy.nets.lipschitz.module import LipschitzModule, plain_linear, spectral_norm
from robopolicy.nets.lipschitz.weights import aol_columns


class SllLinear(LipschitzModule):
    """``x - 2 W T^-1 relu(W^T x + b)`` with T >= W^T W diagonal (Araujo et al. 2023), 1-Lipschitz.

    ReLU passes positive factors through, so the layer is also ``x - 2 V relu(V^T x + c)`` with
    ``V = W T^-1/2`` of norm at most one: this is what is computed.

    Args:
        features: in input and output.
        hidden: features of the inner layer; None: as many as ``features``.
    """

    def __init__(self, features: int, hidden: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(features, hidden or features))
        self.log_shares = nn.Parameter(torch.zeros(hidden or features))
        self.bias = nn.Parameter(torch.zeros(hidden or features))
        nn.init.xavier_normal_(self.weight)

    def used_weight(self) -> Tensor:
        """Returns ``sqrt(2) V`` ``[features, hidden]``."""
        return math.sqrt(2) * aol_columns(self.weight, self.log_shares)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[..., features]`` to the same shape."""
        weight = self.used_weight()
        return x - F.linear(F.relu(F.linear(x, weight.T, self.bias)), weight)

    def lipschitz_bound(self) -> float:
        """Returns 1, or what rounding of the weights makes of it."""
        return self.fold().lipschitz_bound()

    def fold(self) -> PlainSll:
        """Returns the residual block of one plain weight, which is used twice."""
        return PlainSll(plain_linear(self.used_weight().T, self.bias))


class PlainSll(LipschitzModule):
    """``x - W^T relu(W x + b)``: a folded SLL layer.

    Args:
        inner: the plain layer that holds W and b.
    """

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[..., features]`` to the same shape."""
        hidden = F.relu(self.inner(x))
        if x.dim() == 2:
            return torch.addmm(x, hidden, self.inner.weight, alpha=-1)  # spares an operation
        return x - hidden @ self.inner.weight

    def lipschitz_bound(self) -> float:
        """Returns the bound for any W: ``sqrt(1 + 4 s max(s - 1, 0))`` with ``s = |W|^2 / 2``.

        With ``W^T = sqrt(2) V``, the Jacobian ``J = I - 2 V D V^T``, D diagonal in [0, 1], has
        ``J^T J <= I + 4 V (s D^2 - D) V^T``.
        """
        largest = spectral_norm(self.inner.weight) ** 2 / 2
        return math.sqrt(1 + 4 * largest * max(largest - 1, 0))

    def fold(self) -> PlainSll:
        """Returns a copy: it is plain."""
        return PlainSll(plain_linear(self.inner.weight, self.inner.bias))
