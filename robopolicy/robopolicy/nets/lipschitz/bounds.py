"""Upper bounds of the Lipschitz constant of plain nets: the product of the layers', and ECLipsE-Fast.

Both hold for any weights. Those of a net that was not built to have a small constant are honestly loose.
"""

from __future__ import annotations

import math
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor, nn

from robopolicy.nets.lipschitz.kernels import kernel_bound
from robopolicy.nets.lipschitz.module import LipschitzModule, spectral_norm
from robopolicy_datasets.errors import ConfigError

_SLOPES: dict[type[nn.Module], tuple[float, float]] = {
    nn.ReLU: (0.0, 1.0),
    nn.ReLU6: (0.0, 1.0),
    nn.Hardtanh: (0.0, 1.0),
    nn.Tanh: (0.0, 1.0),
    nn.Softsign: (0.0, 1.0),
    nn.Softplus: (0.0, 1.0),
    nn.Sigmoid: (0.0, 0.25),
    nn.SiLU: (-0.0999, 1.0999),
    nn.GELU: (-0.13, 1.13),
    nn.Mish: (-0.113, 1.0885),
}
_SMOOTH = 20.0  # Softplus's threshold from which its jump is below the rounding of float32
_KEEPS_DISTANCE = (nn.Identity, nn.Flatten, nn.Unflatten)
_NORMALIZATIONS = (
    *(nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)
_ATTENTION = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer, nn.Transformer)


@singledispatch
def product_bound(module: nn.Module) -> float:
    """Returns an upper bound of a module's Lipschitz constant: the product of its layers'.

    Args:
        module: a ``LipschitzModule``, a plain layer, or an ``nn.Sequential`` of these.

    Raises:
        ConfigError: a layer has no Lipschitz bound; says which and why.
        RobopolicyError: a weight is not finite.
    """
    slopes = (1.0, 1.0) if isinstance(module, _KEEPS_DISTANCE) else slope_range(module)
    if slopes is None:
        raise unbounded(module)
    _check_unchanged(module)
    return max(-slopes[0], slopes[1])


@product_bound.register
def _sequence(module: nn.Sequential) -> float:
    _check_unchanged(module)
    return math.prod(product_bound(part) for part in module)


@product_bound.register
def _proven(module: LipschitzModule) -> float:
    return module.lipschitz_bound()


@product_bound.register
def _dense(module: nn.Linear) -> float:
    _check_unchanged(module)
    return spectral_norm(module.weight)


@product_bound.register
def _convolution(module: nn.Conv2d) -> float:
    _check_unchanged(module)
    bounded = (
        module.groups == 1
        and set(module.dilation) == {1}
        and len(set(module.stride)) == 1
        and module.padding_mode == "zeros"
    )
    if not bounded:
        raise unbounded(module, "has groups, dilation, unequal strides, or repeats pixels beyond the edge")
    return kernel_bound(module.weight, module.stride[0])


@product_bound.register
def _average_pool(module: nn.AvgPool2d) -> float:
    _check_unchanged(module)
    if module.ceil_mode or (module.padding and not module.count_include_pad):
        raise unbounded(module, "divides by fewer pixels at the edge")
    size, windows = _windows(module)
    return math.sqrt(size * windows) / abs(module.divisor_override or size)


@product_bound.register
def _maximum_pool(module: nn.MaxPool2d) -> float:
    _check_unchanged(module)
    if _pair(module.dilation) != (1, 1):
        raise unbounded(module, "is dilated")
    return math.sqrt(_windows(module)[1])


def _check_unchanged(module: nn.Module) -> None:
    """Refuses a layer that computes something else than torch's of its kind."""
    kind: Any = next(base for base in type(module).__mro__ if base.__module__.startswith("torch.nn."))
    own = "forward" in vars(module) or type(module).forward is not kind.forward
    if own or module._forward_hooks or module._forward_pre_hooks:
        raise unbounded(module, "has a forward or hooks of its own, which may compute anything")


def _windows(module: nn.AvgPool2d | nn.MaxPool2d) -> tuple[int, int]:
    """Returns the pixels in a window, and the windows that a pixel can lie in."""
    sides, steps = _pair(module.kernel_size), _pair(module.stride)
    overlap = [math.ceil(side / step) for side, step in zip(sides, steps, strict=True)]
    return math.prod(sides), math.prod(overlap)


def _pair(size: int | tuple[int, ...]) -> tuple[int, ...]:
    return (size, size) if isinstance(size, int) else tuple(size)


def eclipse_fast_bound(net: nn.Sequential) -> float:
    """Returns the closed-form bound ECLipsE-Fast of a dense net (Xu and Sivaranjani 2024).

    It uses that a slope in [0, 1] lies within 1/2 of 1/2, and is never above the product bound.

    Args:
        net: ``nn.Linear`` layers with activations of slope in [0, 1] between them.

    Raises:
        ConfigError: a layer is of another kind.
        RobopolicyError: a weight is not finite.
    """
    *hidden, last = dense_weights(net)
    inverse = torch.eye((hidden or [last])[0].shape[1], dtype=torch.float64)
    for weight in hidden:
        middle = weight @ inverse @ weight.T
        largest = spectral_norm(middle)
        if largest == 0.0:
            return 0.0
        share = 2 / largest
        one = torch.eye(len(weight), dtype=torch.float64)
        inverse = torch.linalg.inv(share * one - share**2 / 4 * middle)
        inverse = (inverse + inverse.T) / 2
    return math.sqrt(spectral_norm(last @ inverse @ last.T))


def dense_weights(net: nn.Sequential) -> list[Tensor]:
    """Returns the weights between a dense net's activations, in float64; neighbours are multiplied.

    An activation of slope up to s, such as the sigmoid's 1/4, is one of slope up to 1 times s: the weight
    behind it is multiplied by s, at the net's end the weight before it.

    Raises:
        ConfigError: a layer is neither dense nor an activation of slope in [0, 1].
    """
    weights: list[Tensor] = []
    follows = False  # a dense layer, with no activation between
    slope = 1.0  # of the activations since the newest dense layer
    _check_unchanged(net)
    for module in net:
        if isinstance(module, nn.Linear):
            weight = slope * module.weight.detach().double().cpu()
            if follows:
                weight = weight @ weights.pop()
            weights.append(weight)
            follows, slope = True, 1.0
        elif not isinstance(module, _KEEPS_DISTANCE):
            follows = False
            slopes = slope_range(module)
            if slopes is None or slopes[0] < 0 or slopes[1] > 1:
                reason = "is no elementwise activation" if slopes is None else f"has slopes in {slopes}"
                raise ConfigError(
                    f"ECLipsE-Fast needs nn.Linear layers with activations of slope in [0, 1] between them; "
                    f"{type(module).__name__} {reason}. Use ReLU, Tanh or Softplus, or the product bound."
                )
            slope *= slopes[1]
        _check_unchanged(module)
    if not weights:
        raise ConfigError("The net has no nn.Linear layer; ECLipsE-Fast bounds dense nets.")
    weights[-1] = slope * weights[-1]
    return weights


def slope_range(module: nn.Module) -> tuple[float, float] | None:
    """Returns an elementwise activation's least and largest slope; None if the module is none we know.

    Raises:
        ConfigError: it jumps.
    """
    if isinstance(module, nn.Softplus) and module.threshold < _SMOOTH:
        raise unbounded(
            module, f"jumps where it turns linear: its threshold is {module.threshold:g}, below {_SMOOTH:g}"
        )
    if isinstance(module, nn.LeakyReLU):
        slope = float(module.negative_slope)
        return min(slope, 1.0), max(slope, 1.0)
    return _SLOPES.get(type(module))


def unbounded(module: nn.Module, reason: str = "is of a kind that we cannot bound") -> ConfigError:
    """Builds the error for a layer without a Lipschitz bound.

    Args:
        module: the layer.
        reason: why, for kinds that do not say it by themselves.
    """
    if isinstance(module, _NORMALIZATIONS):
        reason = "divides by a deviation of its input, which can be as small as you like"
    elif isinstance(module, _ATTENTION):
        reason = "holds dot-product attention, which grows with the square of its input"
    return ConfigError(
        f"{type(module).__name__} has no Lipschitz bound: it {reason}. Allowed are LipschitzModule, Linear, "
        "Conv2d, AvgPool2d, MaxPool2d, Flatten, LeakyReLU, "
        f"{', '.join(kind.__name__ for kind in _SLOPES)}, and Sequential of these. Replace or remove it."
    )
