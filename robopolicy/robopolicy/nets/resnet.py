"""ResNet-18 (He et al. 2016) under the names of torchvision, so that weights published for it load unchanged.

Its batch normalizations are frozen, as in ACT: each is the affine map that the loaded statistics make it.
A batch then gives what its rows give, and averaged weights stay valid. Without loaded weights they do little;
a backbone that is to learn from scratch has group normalization instead (``vision``).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = (64, 128, 256, 512)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's colours, from 0 to 1
EPSILON = 1e-5


class FrozenBatchNorm(nn.Module):
    """Batch normalization with constant statistics and scales."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes ``[B, C, H, W]``."""
        scale = self.weight * (self.running_var + EPSILON).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the first convolution may halve the resolution."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = FrozenBatchNorm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = FrozenBatchNorm(out_channels)
        self.downsample = nn.Sequential()
        if stride > 1 or in_channels != out_channels:
            shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, FrozenBatchNorm(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[B, in, H, W]`` to ``[B, out, H / stride, W / stride]``."""
        hidden = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(hidden)) + self.downsample(x))


class ResNet18(nn.Module):
    """The convolutions of ResNet-18, without its pooling and its classifier."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, CHANNELS[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = FrozenBatchNorm(CHANNELS[0])
        before = CHANNELS[0]
        for number, channels in enumerate(CHANNELS, start=1):
            first = BasicBlock(before, channels, 1 if number == 1 else 2)
            self.add_module(f"layer{number}", nn.Sequential(first, BasicBlock(channels, channels, 1)))
            before = channels
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Maps images ``[B, 3, H, W]`` in [-1, 1] to ``[B, 512, H / 32, W / 32]``."""
        x = ((images + 1) / 2 - self.mean) / self.deviation
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        for number in range(1, len(CHANNELS) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return x
