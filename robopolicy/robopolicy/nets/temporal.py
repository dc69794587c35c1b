"""1-D convolutions over short time axes, fast on CPUs.

Tensors are time-major, ``[T, B, C]``. Action chunks are short (4 to 16 steps), which makes torch's ``Conv1d``
slow; the same sums are computed here in one of two ways:

- few rows (inference): one matrix product of each step's window of neighbours with all taps;
- else: a 2-D convolution over (time, batch).

Time-major tensors and weights ``[out, taps, in]`` are, seen as images, in channels-last order: neither way
copies them into another layout.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

FEW_ROWS = 64
"""Up to so many output rows (steps times batch) a matrix product is faster than a convolution."""


class TemporalConv(nn.Module):
    """``nn.Conv1d`` over ``[T, B, C]``, zero padded so that stride 1 keeps the length.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: taps, an odd number.
        stride: step between outputs.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.padding = kernel_size // 2
        bound = 1 / math.sqrt(kernel_size * in_channels)
        self.weight = nn.Parameter(
            torch.empty(out_channels, kernel_size, in_channels).uniform_(-bound, bound)
        )
        self.bias = nn.Parameter(torch.empty(out_channels).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[T, B, in]`` to ``[T / stride, B, out]``."""
        steps, batch, _ = x.shape
        few = steps * batch <= FEW_ROWS * self.stride
        return self._windows(x) if few else self._convolution(x)

    def _windows(self, x: Tensor) -> Tensor:
        _, kernel, channels = self.weight.shape
        padded = F.pad(x, (0, 0, 0, 0, self.padding, self.padding)).contiguous()  # no pad, no copy
        length, batch, _ = padded.shape
        steps = (length - kernel) // self.stride + 1
        row = batch * channels
        windows = padded.as_strided((steps, batch, kernel, channels), (self.stride * row, channels, row, 1))
        product = F.linear(windows.reshape(steps * batch, -1), self.weight.flatten(1), self.bias)
        return product.view(steps, batch, -1)

    def _convolution(self, x: Tensor) -> Tensor:
        image = x[None].permute(0, 3, 1, 2)  # [1, in, T, B]
        weight = self.weight[:, :, None].permute(0, 3, 1, 2)  # [out, in, taps, 1]
        image = F.conv2d(image, weight, self.bias, (self.stride, 1), (self.padding, 0))
        return image.permute(0, 2, 3, 1)[0]


class Upsample(nn.Module):
    """Doubles the time axis as ``nn.ConvTranspose1d(channels, channels, 4, stride=2, padding=1)`` does.

    Step t of the input adds to the outputs 2 t - 1 to 2 t + 2, one tap each.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(2 * channels)  # two taps reach each output
        self.weight = nn.Parameter(torch.empty(4 * channels, channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[T, B, C]`` to ``[2 T, B, C]``."""
        before, even, odd, after = F.linear(x, self.weight).chunk(4, dim=-1)
        even = even + F.pad(after[:-1], (0, 0, 0, 0, 1, 0))
        odd = odd + F.pad(before[1:], (0, 0, 0, 0, 0, 1))
        return torch.stack([even, odd], dim=1).flatten(0, 1) + self.bias


class _GroupNorm(torch.autograd.Function):
    """Group normalization of ``[T, B, C]`` as one multiply-add with factors ``[B, C]``.

    With the sums over time first, everything else is small. The gradient takes two multiply-adds more, a
    third of the time of torch's own kernel at four steps. In the small tensors ``[B, groups, C / groups]``
    the last axis is summed away to a value for each group.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        steps, batch, channels = x.shape
        count = steps * channels // groups
        sums = torch.stack([x.sum(0), (x * x).sum(0)]).view(2, batch, groups, -1)
        mean, square = sums.sum(3, keepdim=True).div_(count).unbind()
        inverse = torch.addcmul(square, mean, mean, value=-1).clamp_(min=0).add_(eps).rsqrt_()
        scale = inverse * weight.view(groups, -1)
        shift = torch.addcmul(bias.view(groups, -1), mean, scale, value=-1)
        ctx.save_for_backward(x, mean, inverse, scale)
        return torch.addcmul(shift.view(batch, channels), x, scale.view(batch, channels))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, mean, inverse, scale = ctx.saved_tensors
        shape, small = x.shape, scale.shape
        count = shape[0] * small[2]
        for_bias = gradient.sum(0).view(small)
        products = (gradient * x).sum(0).view(small)
        for_weight = torch.addcmul(products, mean, for_bias, value=-1).mul_(inverse)
        factors = torch.stack([for_weight, for_bias])
        # how the mean and the variance of each group carry the gradient: for_x gets offset + slope * x
        by_variance, by_mean = (factors * (scale / -count)).sum(3, keepdim=True).unbind()
        slope = by_variance * inverse
        offset = torch.addcmul(by_mean, mean, slope, value=-1)
        offset, slope = (part.expand(small).reshape(shape[1:]) for part in (offset, slope))
        for_x = torch.addcmul(offset, x, slope).addcmul_(gradient, scale.view(shape[1:]))
        for_weight, for_bias = factors.sum(1).flatten(1).unbind()
        return for_x, for_weight, for_bias, None, None


class TemporalGroupNorm(nn.GroupNorm):
    """``nn.GroupNorm`` over ``[T, B, C]``."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes each group of channels over time."""
        if torch.is_grad_enabled():
            weights = self.weight.float(), self.bias.float()
            normed = _GroupNorm.apply(x.float(), *weights, self.num_groups, self.eps)
            return normed.to(self.weight.dtype)  # of a net that is rounded to bfloat16, that
        image = x.permute(1, 2, 0).unsqueeze(-1)
        normed = F.group_norm(
            image, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps
        )
        return normed.squeeze(-1).permute(2, 0, 1)


class StepEmbedding(nn.Module):
    """Sinusoidal embedding of the noise level, then a two-layer perceptron (Ho et al. 2020).

    Args:
        size: of the embedding.
        scale: multiplies the step before the sinusoids; flow times in [0, 1] need a large one.
    """

    def __init__(self, size: int, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        half = size // 2
        frequencies = torch.exp(torch.arange(half) * (-math.log(10_000.0) / (half - 1)))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.layers = nn.Sequential(nn.Linear(size, 4 * size), nn.SiLU(), nn.Linear(4 * size, size))

    def forward(self, step: Tensor) -> Tensor:
        """Maps noise levels ``[B]`` to embeddings ``[B, size]``."""
        frequencies: Tensor = self.frequencies  # type: ignore[assignment]
        angles = self.scale * step.float()[:, None] * frequencies
        waves = torch.cat([angles.sin(), angles.cos()], dim=-1)
        return self.layers(waves.to(next(self.layers.parameters()).dtype))
