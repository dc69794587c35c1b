"""What float32 evaluation can add to a Lipschitz bound.

A bound is one of exact arithmetic. A folded net evaluated in float32 obeys, for inputs of norm up to r,
``|f(x) - f(y)| <= L |x - y| + 2 rounding_error(f, r, shape)``. The error is that of sums in any order (Higham
2002, section 3.1: ``|fl(a . b) - a . b| <= gamma_n |a| . |b|``), without TF32 or bf16, without underflow, and
without the fast convolutions (Winograd, Fourier) of GPUs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch

import torch
from torch import Tensor, nn

from robopolicy.nets.lipschitz.activations import GroupSort, MaxMin
from robopolicy.nets.lipschitz.bounds import product_bound
from robopolicy.nets.lipschitz.kernels import kernel_bound
from robopolicy.nets.lipschitz.module import spectral_norm
from robopolicy.nets.lipschitz.residual import PlainSll
from robopolicy.nets.lipschitz.sandwich import PlainSandwich
from robopolicy.nets.lipschitz.smooth import PlainTanhSll
from robopolicy_datasets.errors import ConfigError

_UNIT = 2.0**-24  # half the distance from 1 to the next float32
_TANH = 4 * _UNIT  # relative error of torch's tanh, which is good to one or two units in the last place
_EXACT = (nn.ReLU, nn.Identity, nn.Flatten, nn.Unflatten, nn.MaxPool2d, MaxMin, GroupSort)


@torch.no_grad()
def rounding_error(net: nn.Sequential, radius: float, shape: Sequence[int]) -> float:
    """Returns an upper bound, in l2, of a float32 evaluation's distance from exact arithmetic.

    Args:
        net: a folded net.
        radius: the largest l2 norm of an input.
        shape: of one input, such as ``(features,)`` or ``(channels, H, W)``.

    Raises:
        ConfigError: a layer is of a kind whose rounding is not known.
    """
    error, at_zero = 0.0, torch.zeros(1, *shape, device=next(net.parameters()).device)
    for part in net:
        at_zero = part(torch.zeros_like(at_zero))
        offset, bound = _norm(at_zero), product_bound(part)
        local = _local(part, radius, offset)
        error = bound * error + local
        radius = bound * radius + offset + local
    return error


@singledispatch
def _local(part: nn.Module, radius: float, offset: float) -> float:
    """Returns one layer's own error for inputs of norm ``radius``; ``offset`` is the output's norm at 0."""
    if isinstance(part, _EXACT):
        return 0.0
    raise ConfigError(
        f"The rounding of {type(part).__name__} is not known. Give the fold of a Lipschitz net of dense "
        "layers, convolutions, pooling, ReLU or sorting."
    )


@_local.register
def _dense(part: nn.Linear, radius: float, offset: float) -> float:
    return _gamma(part.in_features + 1) * (_norm(part.weight) * radius + offset)


@_local.register
def _convolution(part: nn.Conv2d, radius: float, offset: float) -> float:
    return _gamma(part.weight[0].numel() + 1) * (
        kernel_bound(part.weight.abs(), part.stride[0]) * radius + offset
    )


@_local.register
def _average_pool(part: nn.AvgPool2d, radius: float, offset: float) -> float:
    kernel = part.kernel_size
    pixels = kernel**2 if isinstance(kernel, int) else kernel[0] * kernel[1]
    return _gamma(pixels + 1) * product_bound(part) * radius


@_local.register
def _sll(part: PlainSll, radius: float, offset: float) -> float:
    weight = part.inner.weight
    inner, hidden = _inner(part.inner, radius)
    return spectral_norm(weight) * inner + _gamma(len(weight) + 1) * (_norm(weight) * hidden + radius)


@_local.register
def _sandwich(part: PlainSandwich, radius: float, offset: float) -> float:
    inner, hidden = _inner(part.inner, radius)
    return spectral_norm(part.weight) * inner + _gamma(len(part.weight)) * _norm(part.weight) * hidden


@_local.register
def _tanh_sll(part: PlainTanhSll, radius: float, offset: float) -> float:
    weight, scale = part.inner.weight, float(part.scale.max())
    inner, hidden = (scale * size for size in _inner(part.inner, radius))
    outer = _gamma(len(weight) + 1) * (_norm(weight) * hidden + radius)
    return spectral_norm(weight) * (inner + 2 * _TANH * hidden) + outer


def _inner(layer: nn.Linear, radius: float) -> tuple[float, float]:
    """Returns a hidden layer's own error, and a bound of what it holds."""
    offset = _norm(layer.bias)
    error = _dense(layer, radius, offset)
    return error, spectral_norm(layer.weight) * radius + offset + error


def _norm(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values.detach().double()))


def _gamma(terms: int) -> float:
    return terms * _UNIT / (1 - terms * _UNIT)
