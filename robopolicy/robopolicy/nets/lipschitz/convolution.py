"""Convolutions of norm at most one on images of any size, and a backbone made of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robopolicy.nets.lipschitz.activations import MaxMin
from robopolicy.nets.lipschitz.kernels import aol_kernel, kernel_bound, patch_overlap
from robopolicy.nets.lipschitz.sequential import LipschitzSequential
from robopolicy.nets.lipschitz.weights import NormalizedLayer, spectral_exact, spectral_step
from robopolicy_datasets.errors import ConfigError


class LipschitzConv2d(NormalizedLayer):
    """A zero-padded convolution of norm at most one.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        kernel_size: taps along each side.
        stride: step between outputs, in pixels.
        padding: zeros at each edge, in pixels.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel_size: int, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__(outputs, inputs, kernel_size, kernel_size)
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[B, inputs, H, W]`` to ``[B, outputs, H', W']``."""
        return F.conv2d(x, self.current_weight(), self.bias, self.stride, self.padding)

    def lipschitz_bound(self) -> float:
        """Returns a bound of the norm, at most 1."""
        return kernel_bound(self.used_weight(), self.stride)

    def fold(self) -> nn.Conv2d:
        """Returns ``nn.Conv2d`` with the kernel that is used."""
        outputs, inputs, size, _ = self.weight.shape
        layer = nn.Conv2d(inputs, outputs, size, self.stride, self.padding)
        layer.weight = nn.Parameter(self.used_weight().detach().clone())
        layer.bias = nn.Parameter(self.bias.detach().clone())
        return layer.train(False)


class SpectralConv2d(LipschitzConv2d):
    """Divides the kernel by its largest singular value as a matrix, and by the overlap of its patches.

    Exact where patches do not overlap (kernel size = stride), else below its constant.
    """

    left: Tensor

    def __init__(
        self, inputs: int, outputs: int, kernel_size: int, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__(inputs, outputs, kernel_size, stride, padding)
        self.register_buffer("left", F.normalize(torch.randn(outputs), dim=0))
        self.share = 1 / math.sqrt(patch_overlap(self.weight, stride))

    def used_weight(self) -> Tensor:
        """Returns the kernel ``[outputs, inputs, size, size]`` divided by its exact norm as a matrix."""
        return self.share * spectral_exact(self.weight)

    def training_weight(self) -> Tensor:
        """Returns the kernel divided by an estimate of that norm."""
        return self.share * spectral_step(self.weight, self.left)


class AolConv2d(LipschitzConv2d):
    """Scales the kernel by input channel and phase, or by output, from its overlaps with itself.

    The convolution of "Almost-Orthogonal Layers", Prach and Lampert 2022, for any stride. It starts as the
    sum of a random kernel, which alone would have a small norm, and an orthogonal map of patches that do not
    overlap, which alone would learn slowly.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel_size: int, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__(inputs, outputs, kernel_size, stride, padding)
        start, side = max(kernel_size - stride, 0) // 2, min(kernel_size, stride)
        patch = nn.init.orthogonal_(torch.empty(outputs, inputs, side, side))
        with torch.no_grad():
            self.weight[:, :, start : start + side, start : start + side] += patch

    def used_weight(self) -> Tensor:
        """Returns the scaled kernel ``[outputs, inputs, size, size]``."""
        return aol_kernel(self.weight, self.stride)


def scaled_average_pool(size: int) -> nn.AvgPool2d:
    """Returns the average over ``size`` x ``size`` pixels, times ``size``: 1-Lipschitz and no smaller."""
    return nn.AvgPool2d(size, divisor_override=size)


def aol_backbone(channels: Sequence[int]) -> LipschitzSequential:
    """Returns 1-Lipschitz convolutions from ``[B, 3, H, W]``, each of which halves the resolution.

    A bound for pixels is weak: a change of every number by 1 / 255 of the range has an l2 norm of 0.57 for
    84 x 84 colour images in [0, 1], twice that in [-1, 1].

    Args:
        channels: of each, even numbers.

    Raises:
        ConfigError: the channels cannot be paired.
    """
    if any(count < 2 or count % 2 for count in channels):
        raise ConfigError(
            f"An AOL backbone sorts pairs of channels; they are {list(channels)}. Make all even."
        )
    layers: list[nn.Module] = []
    for before, count in itertools.pairwise((3, *channels)):
        layers += [AolConv2d(before, count, 4, stride=2, padding=1), MaxMin(dim=1)]
    return LipschitzSequential(*layers)
