"""A residual convolution encoder for camera images, with group normalization (no running statistics)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robopolicy.nets.lipschitz.dense import AolLinear
from robopolicy.nets.lipschitz.module import LipschitzModule


class ResidualStage(nn.Module):
    """A residual block of two 3x3 convolutions; the first may halve the resolution."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, groups: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.first_norm = nn.GroupNorm(groups, out_channels)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.second_norm = nn.GroupNorm(groups, out_channels)
        same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[B, in, H, W]`` to ``[B, out, H / stride, W / stride]``."""
        hidden = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(hidden)) + self.shortcut(x))


def residual_backbone(channels: Sequence[int], blocks: int, groups: int) -> nn.Sequential:
    """Returns a stem and residual stages, to be trained from scratch.

    The stem's 8 x 8 patches, four pixels apart, spare a residual stage at high resolution, slow on a CPU.

    Args:
        channels: of the stages; the stem has the first stage's.
        blocks: residual blocks in a stage.
        groups: of the group normalizations.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(3, channels[0], 8, stride=4, padding=2, bias=False),
        nn.GroupNorm(groups, channels[0]),
        nn.ReLU(),
    ]
    before = channels[0]
    for count in channels:
        for block in range(blocks):
            layers.append(ResidualStage(before, count, 2 if block == 0 else 1, groups))
            before = count
    return nn.Sequential(*layers)


class ImageEncoder(nn.Module):
    """Encodes one image to a vector: a backbone of convolutions, flattened features, one linear layer.

    Flattened features keep where things are, and how many.

    Args:
        backbone: maps ``[B, 3, H, W]`` to ``[B, C, h, w]``.
        height: of the images, pixels.
        width: of the images, pixels.
        features: numbers in the output.
    """

    def __init__(self, backbone: nn.Module, height: int, width: int, features: int) -> None:
        super().__init__()
        self.backbone = backbone
        with torch.no_grad():
            size = self.backbone(torch.zeros(1, 3, height, width)).numel()
        bounded = isinstance(backbone, LipschitzModule)  # then the whole encoder is
        self.head = AolLinear(size, features) if bounded else nn.Linear(size, features)

    def forward(self, images: Tensor) -> Tensor:
        """Maps images ``[B, 3, H, W]`` in [-1, 1] to features ``[B, features]``."""
        return self.head(self.backbone(images).flatten(1))
