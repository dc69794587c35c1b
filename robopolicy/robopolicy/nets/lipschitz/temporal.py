"""A net from numbers to a short sequence: residual convolutions over time, of a proven constant.

A perceptron sees a chunk of actions as unrelated numbers. Here each step has channels, and what a block does
is the same at every step.

Residual blocks of constant 1 bend little. These have a branch of a larger constant, and weights are scaled
down only where they would exceed it: the net learns like a plain one, and the product of the blocks'
constants is a bound that is safe rather than tight.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robopolicy.nets.lipschitz.mlp import budget
from robopolicy.nets.lipschitz.module import MARGIN, LipschitzModule, finite, plain_linear, spectral_norm
from robopolicy.nets.lipschitz.sequential import LipschitzSequential
from robopolicy_datasets.errors import ConfigError

BRANCH = 3.0
"""Constant of a block's branch; the block's is one more."""
KERNEL = 5


def sequence_bound(kernel: Tensor, steps: int) -> float:
    """Returns an upper bound of a zero-padded convolution's norm on sequences of ``steps``, in float64.

    On a circle of ``steps + taps - 1`` steps the convolution does not notice that its ends meet. There it is
    a product with one matrix for each frequency; what is cut off at the ends only makes it smaller.

    Args:
        kernel: ``[outputs, inputs, taps]``.
        steps: of a sequence.

    Raises:
        RobopolicyError: an entry is not finite.
    """
    return (1 + 1e-12) * float(_norm(kernel.double(), steps))


class CappedConv1d(LipschitzModule):
    """A convolution over time whose kernel is scaled down where its norm would exceed a cap.

    Args:
        channels: of input and output.
        steps: of the sequences.
        most: the cap.
    """

    def __init__(self, channels: int, steps: int, most: float) -> None:
        super().__init__()
        self.steps, self.most = steps, most
        self.weight = nn.Parameter(torch.empty(channels, channels, KERNEL))
        self.bias = nn.Parameter(torch.zeros(channels))
        nn.init.xavier_normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[B, channels, steps]`` to the same shape."""
        return F.conv1d(x, self.used_weight(), self.bias, padding=KERNEL // 2)

    def used_weight(self) -> Tensor:
        """Returns the kernel ``[channels, channels, taps]``."""
        return _capped(self.weight, _norm(self.weight, self.steps), self.most)

    def lipschitz_bound(self) -> float:
        """Returns a bound of the norm, at most the cap."""
        return sequence_bound(self.used_weight(), self.steps)

    def fold(self) -> nn.Conv1d:
        """Returns ``nn.Conv1d`` with the kernel that is used."""
        channels = len(self.bias)
        layer = nn.Conv1d(channels, channels, KERNEL, padding=KERNEL // 2)
        layer.weight = nn.Parameter(self.used_weight().detach().clone())
        layer.bias = nn.Parameter(self.bias.detach().clone())
        return layer.train(False)


class CappedLinear(LipschitzModule):
    """A dense layer whose weight is scaled down where its norm would exceed a cap.

    Args:
        inputs: features in the input.
        outputs: features in the output.
        most: the cap.
    """

    def __init__(self, inputs: int, outputs: int, most: float) -> None:
        super().__init__()
        self.most = most
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.xavier_normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[..., inputs]`` to ``[..., outputs]``."""
        return F.linear(x, self.used_weight(), self.bias)

    def used_weight(self) -> Tensor:
        """Returns the weight ``[outputs, inputs]``."""
        return _capped(self.weight, _norm(self.weight[..., None], 1), self.most)

    def lipschitz_bound(self) -> float:
        """Returns the norm of the weight, at most the cap."""
        return spectral_norm(self.used_weight())

    def fold(self) -> nn.Linear:
        """Returns ``nn.Linear`` with the weight that is used."""
        return plain_linear(self.used_weight(), self.bias)


class TemporalBlock(LipschitzModule):
    """``x + second(relu(first(x)))``, of a constant of at most ``1 + BRANCH``.

    Args:
        channels: of input and output.
        steps: of the sequences.
    """

    def __init__(self, channels: int, steps: int) -> None:
        super().__init__()
        self.first, self.second = (CappedConv1d(channels, steps, math.sqrt(BRANCH)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[B, channels, steps]`` to the same shape."""
        return x + self.second(F.relu(self.first(x)))

    def lipschitz_bound(self) -> float:
        """Returns 1 and the product of the convolutions' bounds."""
        return 1 + self.first.lipschitz_bound() * self.second.lipschitz_bound()

    def fold(self) -> PlainTemporalBlock:
        """Returns the block of plain convolutions."""
        return PlainTemporalBlock(self.first.fold(), self.second.fold(), self.first.steps)


class PlainTemporalBlock(LipschitzModule):
    """A folded ``TemporalBlock``.

    Args:
        first: convolution before the activation.
        second: convolution behind it.
        steps: of the sequences.
    """

    def __init__(self, first: nn.Conv1d, second: nn.Conv1d, steps: int) -> None:
        super().__init__()
        self.first, self.second, self.steps = first, second, steps

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[B, channels, steps]`` to the same shape."""
        return x + self.second(F.relu(self.first(x)))

    def lipschitz_bound(self) -> float:
        """Returns 1 and the product of the convolutions' bounds, for any weights."""
        first, second = (sequence_bound(layer.weight, self.steps) for layer in (self.first, self.second))
        return 1 + first * second

    def fold(self) -> PlainTemporalBlock:
        """Returns a copy: it is plain."""
        return copy.deepcopy(self)


class LipschitzTemporal(LipschitzModule):
    """``bound * f(diag(input_bounds) x)`` with f 1-Lipschitz, whose outputs are a sequence.

    When x moves by dx, all outputs together move by at most ``bound * |diag(input_bounds) dx|``, whatever the
    weights are.

    Args:
        inputs: features in the input.
        steps: of the sequence.
        outputs: features of each step.
        channels: of each step in the hidden layers.
        depth: residual blocks.
        bound: see above, above 0.
        input_bounds: one number above 0 for each input.

    Raises:
        ConfigError: a size or a bound is impossible.
    """

    input_bounds: Tensor

    def __init__(
        self,
        inputs: int,
        steps: int,
        outputs: int,
        channels: int,
        depth: int,
        bound: float,
        input_bounds: Sequence[float],
    ) -> None:
        super().__init__()
        if min(inputs, steps, outputs, channels, depth) < 1:
            raise ConfigError(
                f"A net of {inputs} inputs, {steps} steps of {outputs} outputs, {channels} channels and "
                f"depth {depth} cannot be built; each must be at least 1."
            )
        self.steps, self.outputs = steps, outputs
        most = math.sqrt(bound / (1 + BRANCH) ** depth)
        self.register_buffer("input_bounds", budget("input_bounds", input_bounds, inputs))
        self.lift = CappedLinear(inputs, channels * steps, most)
        self.readout = CappedLinear(channels, outputs, most)
        self.hidden = LipschitzSequential(*(TemporalBlock(channels, steps) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[B, inputs]`` to ``[B, steps * outputs]``, the steps one after another."""
        features = self.hidden(self.lift(self.input_bounds * x).unflatten(-1, (-1, self.steps)))
        return self.readout(features.mT).flatten(-2)

    def lipschitz_bound(
        self, inputs: Sequence[int] | None = None, outputs: Sequence[int] | None = None
    ) -> float:
        """Returns the bound of some outputs for a change of some inputs, both in l2.

        Args:
            inputs: that change; None: all.
            outputs: that are looked at; None: all. The bound is that of the features that they are of, in all
                steps.
        """
        before, after = self._first().weight, self.readout.used_weight()
        if inputs is not None:
            before = before[:, list(inputs)]
        if outputs is not None:
            after = after[sorted({output % self.outputs for output in outputs})]
        return spectral_norm(before) * self.hidden.lipschitz_bound() * spectral_norm(after)

    def fold(self) -> PlainTemporal:
        """Returns the net of plain layers, with the budgets multiplied in."""
        return PlainTemporal(self._first(), self.hidden.fold(), self.readout.fold(), self.steps)

    def _first(self) -> nn.Linear:
        return plain_linear(self.lift.used_weight() * self.input_bounds, self.lift.bias)


class PlainTemporal(LipschitzModule):
    """A folded ``LipschitzTemporal``.

    Args:
        first: from the inputs to all steps' channels, those of one channel together.
        hidden: blocks.
        last: of each step.
        steps: of the sequence.
    """

    def __init__(self, first: nn.Linear, hidden: LipschitzSequential, last: nn.Linear, steps: int) -> None:
        super().__init__()
        self.first, self.hidden, self.last, self.steps = first, hidden, last, steps

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[B, inputs]`` to ``[B, steps * outputs]``, the steps one after another."""
        features = self.hidden(self.first(x).unflatten(-1, (-1, self.steps)))
        return self.last(features.mT).flatten(-2)

    def lipschitz_bound(self) -> float:
        """Returns the product of the layers' bounds, for any weights."""
        first, last = spectral_norm(self.first.weight), spectral_norm(self.last.weight)
        return first * self.hidden.lipschitz_bound() * last

    def fold(self) -> PlainTemporal:
        """Returns a copy: it is plain."""
        return copy.deepcopy(self)


def _capped(weight: Tensor, norm: Tensor, most: float) -> Tensor:
    """Returns a weight of the given norm, scaled down to ``most`` where that is less."""
    scale = (1 - MARGIN) * most / norm
    if scale >= 1:
        return weight
    # the length of a scaled weight means nothing: no gradient should lengthen it
    length = weight.norm()
    return weight / length * (scale * length.detach())


@torch.no_grad()
def _norm(kernel: Tensor, steps: int) -> Tensor:
    """Returns the bound of ``sequence_bound`` in the kernel's own precision."""
    circle = steps + kernel.shape[-1] - 1
    spectrum = torch.fft.rfft(finite(kernel), n=circle).permute(2, 0, 1)
    wide = kernel.shape[0] < kernel.shape[1]
    products = spectrum @ spectrum.mH if wide else spectrum.mH @ spectrum
    return torch.linalg.eigvalsh(products).max().sqrt()  # faster than singular values
