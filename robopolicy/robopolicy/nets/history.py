"""An encoder for the newest samples of a fast sensor, such as the forces of the last control period."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robopolicy.nets.temporal import TemporalConv

WIDTH, TAPS = 32, 5


class HistoryEncoder(nn.Module):
    """Two convolutions over time, each halving it, then one linear layer.

    Args:
        samples: in a history.
        channels: numbers in a sample.
        features: numbers in the output.
    """

    def __init__(self, samples: int, channels: int, features: int) -> None:
        super().__init__()
        self.first = TemporalConv(channels, WIDTH, TAPS, stride=2)
        self.second = TemporalConv(WIDTH, WIDTH, TAPS, stride=2)
        quarter = -(-samples // 4)
        self.head = nn.Linear(quarter * WIDTH, features)

    def forward(self, history: Tensor) -> Tensor:
        """Maps histories ``[B, T, C]``, newest last, to features ``[B, features]``."""
        x = F.silu(self.first(history.transpose(0, 1)))
        x = F.silu(self.second(x))
        return self.head(torch.flatten(x.transpose(0, 1), 1))
