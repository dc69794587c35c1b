"""Dense layers of norm at most one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robopolicy.nets.lipschitz.module import plain_linear, spectral_norm
from robopolicy.nets.lipschitz.weights import NormalizedLayer, aol_columns, spectral_exact, spectral_step


class LipschitzLinear(NormalizedLayer):
    """A dense layer whose weight has norm at most one.

    Args:
        inputs: features in the input.
        outputs: features in the output.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(outputs, inputs)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[..., inputs]`` to ``[..., outputs]``."""
        return F.linear(x, self.current_weight(), self.bias)

    def lipschitz_bound(self) -> float:
        """Returns the norm of the weight, at most 1."""
        return spectral_norm(self.used_weight())

    def fold(self) -> nn.Linear:
        """Returns ``nn.Linear`` with the weight that is used."""
        return plain_linear(self.used_weight(), self.bias)


class SpectralLinear(LipschitzLinear):
    """Divides the weight by its largest singular value (Miyato et al. 2018).

    Training follows the singular vectors by one power iteration a step; evaluation, bound and fold take them
    from an exact decomposition in float64, which is slow: fold a net before it is deployed.
    """

    left: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("left", F.normalize(torch.randn(outputs), dim=0))

    def used_weight(self) -> Tensor:
        """Returns the weight ``[outputs, inputs]`` divided by its exact norm."""
        return spectral_exact(self.weight)

    def training_weight(self) -> Tensor:
        """Returns the weight ``[outputs, inputs]`` divided by an estimate of its norm."""
        return spectral_step(self.weight, self.left)


class AolLinear(LipschitzLinear):
    """Scales the columns, or the rows where these are fewer, so that the norm is at most one.

    "Almost-Orthogonal Layers", Prach and Lampert 2022. Exact for orthogonal columns, safe for any.
    """

    def used_weight(self) -> Tensor:
        """Returns the scaled weight ``[outputs, inputs]``."""
        outputs, inputs = self.weight.shape
        return aol_columns(self.weight) if inputs <= outputs else aol_columns(self.weight.T).T
