"""What float32 evaluation can add to a Lipschitz bound.

A bound is one of exact arithmetic. A folded net evaluated in float32 obeys, for inputs of norm up to r,
``|f(x) - f(y)| <= L |x - y| + 2 rounding_error(f, r)``. The error is that of sums in any order (Higham 2002,
section 3.1: ``|fl(a . b) - a . b| <= gamma_n |a| . |b|``), without TF32 or bf16 and without underflow.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robopolicy.nets.lipschitz.activations import GroupSort, MaxMin
from robopolicy.nets.lipschitz.bounds import product_bound
from robopolicy.nets.lipschitz.module import spectral_norm
from robopolicy.nets.lipschitz.residual import PlainSll
from robopolicy.nets.lipschitz.sandwich import PlainSandwich
from robopolicy.nets.lipschitz.smooth import PlainTanhSll
from robopolicy_datasets.errors import ConfigError

_UNIT = 2.0**-24  # half the distance from 1 to the next float32
_TANH = 4 * _UNIT  # relative error of torch's tanh, which is good to one or two units in the last place
_EXACT = (nn.ReLU, nn.Identity, nn.Flatten, nn.Unflatten, MaxMin, GroupSort)


def rounding_error(net: nn.Sequential, radius: float) -> float:
    """Returns an upper bound, in l2, of a float32 evaluation's distance from exact arithmetic.

    Args:
        net: a folded dense net.
        radius: the largest l2 norm of an input.

    Raises:
        ConfigError: a layer is of a kind whose rounding is not known.
    """
    error = 0.0
    for part in net:
        local, offset = _local(part, radius)
        bound = product_bound(part)
        error = bound * error + local
        radius = bound * radius + offset + local
    return error


def _local(part: nn.Module, radius: float) -> tuple[float, float]:
    """Returns one layer's own error for inputs of norm ``radius``, and a bound of its output at zero."""
    if isinstance(part, _EXACT):
        return 0.0, 0.0
    if isinstance(part, nn.Linear):
        offset = _norm(part.bias)
        return _product_error(part.weight, radius) + _gamma(part.in_features + 1) * offset, offset
    if isinstance(part, PlainSll | PlainSandwich):
        weight = part.inner.weight.T if isinstance(part, PlainSll) else part.weight.T
        inner, offset = _local(part.inner, radius)
        hidden = spectral_norm(part.inner.weight) * radius + offset + inner
        added = _gamma(weight.shape[1] + 1) * radius if isinstance(part, PlainSll) else 0.0
        outer = spectral_norm(weight)
        return outer * inner + _product_error(weight, hidden) + added, outer * offset
    if isinstance(part, PlainTanhSll):
        inner, offset = _local(part.inner, radius)
        scale, outer = float(part.scale.detach().max()), spectral_norm(part.inner.weight)
        hidden = scale * (outer * radius + offset + inner)
        added = _product_error(part.inner.weight.T, hidden) + _gamma(part.inner.in_features + 1) * radius
        return outer * (scale * inner + 2 * _TANH * hidden) + added, outer * scale * offset
    raise ConfigError(
        f"The rounding of {type(part).__name__} is not known. Give the fold of a dense Lipschitz net."
    )


def _product_error(weight: Tensor, radius: float) -> float:
    return _gamma(weight.shape[1] + 1) * _norm(weight) * radius


def _norm(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values.detach().double()))


def _gamma(terms: int) -> float:
    return terms * _UNIT / (1 - terms * _UNIT)
