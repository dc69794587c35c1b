"""The sandwich layer: the most expressive dense one, as tight as a semidefinite certificate."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robopolicy.nets.lipschitz.module import MARGIN, LipschitzModule, plain_linear, spectral_norm
from robopolicy.nets.lipschitz.weights import unit_scale

_MOST_GAIN = 1e3  # of the Cayley map's argument; float64 inverts it well up to here


class SandwichLinear(LipschitzModule):
    """``sqrt(2) A^T relu(sqrt(2) B x + b)`` with ``A A^T + B B^T <= I`` (Wang and Manchester 2023).

    A and B come from free matrices by the Cayley map. The paper's diagonal scaling of the activation is a
    scaling of b for ReLU, so there is none.

    Args:
        inputs: features in the input.
        outputs: features in the output.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs + inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.xavier_normal_(self.weight)
        self.gain = nn.Parameter(torch.linalg.matrix_norm(self.weight.detach()))

    def used_weights(self) -> tuple[Tensor, Tensor]:
        """Returns ``sqrt(2) A [outputs, outputs]`` and ``sqrt(2) B [outputs, inputs]``."""
        scaled = unit_scale(self.weight).double()
        gain = self.gain.double().clamp(-_MOST_GAIN, _MOST_GAIN)
        scaled = scaled * (gain / torch.linalg.matrix_norm(scaled).clamp_min(1e-30))
        outputs = len(self.bias)
        square, rest = scaled[:outputs], scaled[outputs:]
        middle = square - square.T + rest.T @ rest
        one = torch.eye(outputs, dtype=scaled.dtype, device=scaled.device)
        inverse = torch.linalg.inv(one + middle)
        factor = math.sqrt(2) * (1 - MARGIN)
        inner = (factor * ((one - middle) @ inverse).T).to(self.weight.dtype)
        outer = (-2 * factor * (rest @ inverse).T).to(self.weight.dtype)
        return inner, outer

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[..., inputs]`` to ``[..., outputs]``."""
        after, before = self.used_weights()
        return F.linear(F.relu(F.linear(x, before, self.bias)), after.T)

    def lipschitz_bound(self) -> float:
        """Returns 1, or what rounding of the weights makes of it."""
        return self.fold().lipschitz_bound()

    def fold(self) -> PlainSandwich:
        """Returns two plain layers with ReLU between them."""
        after, before = self.used_weights()
        return PlainSandwich(plain_linear(before, self.bias), after.detach())


class PlainSandwich(LipschitzModule):
    """``W^T relu(inner(x))``: a folded sandwich layer.

    Args:
        inner: the plain layer before the activation.
        weight: W ``[hidden, outputs]``.
    """

    def __init__(self, inner: nn.Linear, weight: Tensor) -> None:
        super().__init__()
        self.inner = inner
        self.weight = nn.Parameter(weight.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[..., inputs]`` to ``[..., outputs]``."""
        return F.relu(self.inner(x)) @ self.weight

    def lipschitz_bound(self) -> float:
        """Returns the bound for any weights: s, where ``A A^T + B B^T <= s I``.

        For s = 1: with h the change behind the activation, ``|dx|^2 - |dy|^2`` is at least
        ``|dx - sqrt(2) B^T h|^2`` because ``h^T (sqrt(2) B dx - h) >= 0``. Scaling A and B gives the rest.
        """
        return spectral_norm(torch.cat([self.weight, self.inner.weight], dim=1)) ** 2 / 2

    def fold(self) -> PlainSandwich:
        """Returns a copy: it is plain."""
        return PlainSandwich(plain_linear(self.inner.weight, self.inner.bias), self.weight.detach())
