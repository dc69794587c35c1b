"""Convolution kernels ``[outputs, inputs, height, width]``: bounds of their norm, for images of any size.

A convolution of stride s is one of stride 1 over s x s times as many channels, the phases of the image. That
one's norm is bounded for any image, zero padded, in two ways:

- patches: a pixel lies in ``taps`` patches, so ``|K|^2 <= taps * |K as a matrix|^2``;
- overlaps: ``|K^T K| <= |M|`` with ``M_ij = sum_shift |sum_o K_oi * K_oj (shifted)|`` (Prach and Lampert
  2022), or the same of the transposed kernel, if there are fewer outputs than inputs.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from robopolicy.nets.lipschitz.module import finite, full_precision, spectral_norm
from robopolicy.nets.lipschitz.weights import aol_factors, unit_scale


def kernel_bound(kernel: Tensor, stride: int) -> float:
    """Returns an upper bound of a convolution's norm in float64: the lesser of the two above.

    Raises:
        RobopolicyError: an entry is not finite.
    """
    phases = split_phases(finite(kernel.detach().double()), stride)
    taps = patch_overlap(kernel, stride)
    outputs, inputs = phases.shape[:2]
    columns = phases.transpose(0, 1) if outputs < inputs else phases
    by_patches = math.sqrt(taps) * spectral_norm(phases.flatten(1))
    return min(by_patches, math.sqrt(spectral_norm(overlaps(columns))))


def patch_overlap(kernel: Tensor, stride: int) -> int:
    """Returns in how many patches a pixel can lie."""
    height, width = kernel.shape[-2:]
    return math.ceil(height / stride) * math.ceil(width / stride)


def split_phases(kernel: Tensor, stride: int) -> Tensor:
    """Returns the kernel of stride 1 over phases: ``[outputs, inputs * stride^2, taps, taps]``."""
    height, width = kernel.shape[-2:]
    padded = F.pad(kernel, (0, -width % stride, 0, -height % stride))
    split = padded.unflatten(3, (-1, stride)).unflatten(2, (-1, stride))  # o, c, tap, phase, tap, phase
    return split.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)


def overlaps(kernel: Tensor) -> Tensor:
    """Returns M ``[inputs, inputs]`` of a kernel of stride 1."""
    height, width = kernel.shape[-2:]
    columns = kernel.transpose(0, 1)
    return F.conv2d(columns, columns, padding=(height - 1, width - 1)).abs().sum((2, 3))


@full_precision
def aol_kernel(kernel: Tensor, stride: int) -> Tensor:
    """Scales a kernel to a norm of at most one: by input channel and phase, or by output if that is fewer."""
    scaled = unit_scale(kernel)
    phases = split_phases(scaled, stride)
    outputs, inputs, *taps = phases.shape
    if outputs < inputs:
        return scaled * aol_factors(overlaps(phases.transpose(0, 1)))[:, None, None, None]
    factors = aol_factors(overlaps(phases)).view(-1, stride, stride).repeat(1, *taps)
    return scaled * factors[:, : kernel.shape[2], : kernel.shape[3]]
