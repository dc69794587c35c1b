"""1-D convolutions over short time axes, fast on CPUs.

Tensors are time-major, ``[T, B, C]``. Action chunks are short (4 to 16 steps), which makes torch's ``Conv1d``
slow; the same sums are computed here in one of three ways, whichever is fastest for the shape:

- few rows (inference): one matrix product of each step's window of neighbours with all taps;
- at most four steps (the coarse levels of a U-Net): a product of block Toeplitz matrices by Karatsuba's
  scheme, which takes 9 instead of 20 products of channel matrices at four steps and five taps;
- else: a 2-D convolution over (time, batch), which needs no change of memory layout.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

FEW_ROWS = 64
"""Up to so many output rows (steps times batch), arranging the weights costs more than it saves."""


@functools.cache
@torch.inference_mode(False)  # the matrices are kept, and training needs ordinary tensors
def karatsuba(steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the three matrices of a fast product of a Toeplitz matrix with a vector.

    With diagonals ``d[j - i + steps - 1]``, ``M[i, j] = d[j - i + steps - 1]``, the product is
    ``M x = output @ ((diagonals @ d) * (inputs @ x))``. The halves of ``M = [[a, b], [c, a]]`` need three
    instead of four half-sized products, ``a (x0 + x1)``, ``(b - a) x1``, ``(c - a) x0``, and so on in turn.

    Args:
        steps: size of the matrix, a power of two.

    Returns:
        ``inputs [n, steps]``, ``diagonals [n, 2 * steps - 1]``, ``output [steps, n]``, n = 3 ** log2(steps).
    """
    if steps == 1:
        return torch.ones(1, 1), torch.ones(1, 1), torch.ones(1, 1)
    half = steps // 2
    inputs, diagonals, output = karatsuba(half)
    place = torch.eye(2 * steps - 1)
    c, a, b = (diagonals @ place[start : start + steps - 1] for start in (0, half, steps))
    return (
        torch.kron(torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]), inputs),
        torch.cat([a, b - a, c - a]),
        torch.kron(torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]), output),
    )


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
            torch.empty(kernel_size, in_channels, out_channels).uniform_(-bound, bound)
        )
        self.bias = nn.Parameter(torch.empty(out_channels).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[T, B, in]`` to ``[T / stride, B, out]``."""
        steps, batch, _ = x.shape
        if steps * batch <= FEW_ROWS * self.stride:
            return self._windows(x)
        exact = x.dtype == torch.float32 and not torch.is_autocast_enabled(x.device.type)
        if self.stride == 1 and steps in (1, 2, 4) and exact and x.device.type == "cpu":
            return self._toeplitz(x)
        return self._convolution(x)

    def _windows(self, x: Tensor) -> Tensor:
        kernel, channels, _ = self.weight.shape
        padded = F.pad(x, (0, 0, 0, 0, self.padding, self.padding)).contiguous()  # no pad, no copy
        length, batch, _ = padded.shape
        steps = (length - kernel) // self.stride + 1
        row = batch * channels
        windows = padded.as_strided((steps, batch, kernel, channels), (self.stride * row, channels, row, 1))
        product = torch.addmm(self.bias, windows.reshape(steps * batch, -1), self.weight.flatten(0, 1))
        return product.view(steps, batch, -1)

    def _toeplitz(self, x: Tensor) -> Tensor:
        steps, batch, channels = x.shape
        inputs, diagonals, output = karatsuba(steps)
        # tap k is the diagonal k - padding; those beyond the matrix meet only zeros
        reach = min(self.padding, steps - 1)
        diagonals = diagonals[:, steps - 1 - reach : steps + reach]
        taps: Tensor = self.weight
        if reach < self.padding:
            taps = taps[self.padding - reach : self.padding + reach + 1]
        weights = (diagonals @ taps.flatten(1)).unflatten(1, taps.shape[1:])
        mixed = (inputs @ x.reshape(steps, -1)).view(-1, batch, channels)
        products = torch.bmm(mixed, weights).flatten(1)
        return torch.addmm(self.bias.repeat(batch), output, products).view(steps, batch, -1)

    def _convolution(self, x: Tensor) -> Tensor:
        image = x.permute(2, 0, 1).unsqueeze(0)  # [1, in, T, B] in channels-last order
        weight = self.weight.permute(2, 1, 0).unsqueeze(-1).contiguous(memory_format=torch.channels_last)
        image = F.conv2d(image, weight, self.bias, (self.stride, 1), (self.padding, 0))
        return image.squeeze(0).permute(1, 2, 0)


class Upsample(nn.Module):
    """Doubles the time axis as ``nn.ConvTranspose1d(channels, channels, 4, stride=2, padding=1)`` does.

    Step t of the input adds to the outputs 2 t - 1 to 2 t + 2, one tap each.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(2 * channels)  # two taps reach each output
        self.weight = nn.Parameter(torch.empty(channels, 4 * channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[T, B, C]`` to ``[2 T, B, C]``."""
        before, even, odd, after = (x @ self.weight).chunk(4, dim=-1)
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
            return _GroupNorm.apply(x.float(), self.weight, self.bias, self.num_groups, self.eps)
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
        return self.layers(torch.cat([angles.sin(), angles.cos()], dim=-1))
