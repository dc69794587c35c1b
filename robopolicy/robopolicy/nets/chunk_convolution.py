"""A net from numbers to a chunk: residual convolutions over its steps.

A perceptron sees a chunk of actions as unrelated numbers and learns by heart; here each step has channels,
and what a block does is the same at every step.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from robopolicy.nets.temporal import TemporalConv, TemporalGroupNorm

_TAPS, _GROUPS = 5, 8


class _Block(nn.Module):
    """``x + second(silu(first(norm(x))))`` over ``[T, B, C]``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = TemporalGroupNorm(_GROUPS, channels)
        self.first, self.second = (TemporalConv(channels, channels, _TAPS) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(self.norm(x))))


class ChunkConvolution(nn.Module):
    """Maps numbers to a sequence.

    Args:
        inputs: numbers in the input.
        steps: of the sequence.
        outputs: numbers of each step.
        channels: of each step in the hidden layers, divisible by 8.
        blocks: residual blocks.
    """

    def __init__(self, inputs: int, steps: int, outputs: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.steps = steps
        self.lift = nn.Linear(inputs, steps * channels)
        self.blocks = nn.Sequential(*(_Block(channels) for _ in range(blocks)))
        self.readout = nn.Linear(channels, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[B, inputs]`` to ``[B, steps * outputs]``, the steps one after another."""
        features = self.lift(x).unflatten(-1, (self.steps, -1)).transpose(0, 1)
        return self.readout(self.blocks(features)).transpose(0, 1).flatten(1)
