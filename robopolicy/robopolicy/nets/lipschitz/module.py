"""What every net with a proven Lipschitz constant offers, and the norm of a matrix behind each proof."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Concatenate, ParamSpec

import torch
from torch import Tensor, nn

from robopolicy_datasets.errors import RobopolicyError

P = ParamSpec("P")
WeightFunction = Callable[Concatenate[Tensor, P], Tensor]

MARGIN = 1e-5
"""Layers are scaled this little below their constant, so that rounded weights do not exceed it."""
_UPWARD = 1 + 1e-12  # more than the relative error of a decomposition in float64


class LipschitzModule(nn.Module, ABC):
    """A module f with a constant L that is proven: ``|f(x) - f(y)| <= L |x - y|``, both norms l2.

    The constant is one of exact arithmetic with the weights as they are stored, rounding included;
    ``robopolicy.nets.lipschitz.rounding`` bounds what float32 evaluation adds. Autocast is off inside: in
    bfloat16 no such bound would mean much.
    """

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Evaluates the module; under autocast half-precision inputs are taken as float32."""
        kind = inputs[0].device.type
        if not torch.is_autocast_enabled(kind):
            return super().__call__(*inputs)
        half = (torch.bfloat16, torch.float16)
        with torch.autocast(kind, enabled=False):
            return self(*(x.float() if x.dtype in half else x for x in inputs))

    @abstractmethod
    def lipschitz_bound(self) -> float:
        """Returns L, computed in float64 from the weights that evaluation mode and the fold use.

        Raises:
            RobopolicyError: a weight is not finite.
        """

    @abstractmethod
    def fold(self) -> nn.Module:
        """Returns the same function as a new module of plain layers, which computes no weights."""


def full_precision(compute: WeightFunction[P]) -> WeightFunction[P]:
    """Decorates a function of weights so that autocast does not reach it."""

    @functools.wraps(compute)
    def computed(weight: Tensor, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            return compute(weight, *args, **kwargs)

    return computed


def spectral_norm(matrix: Tensor) -> float:
    """Returns the largest singular value of ``[rows, columns]``, computed in float64 and rounded up.

    Raises:
        RobopolicyError: an entry is not finite.
    """
    return _UPWARD * float(torch.linalg.matrix_norm(finite(matrix.detach().double()), 2))


def finite(weight: Tensor) -> Tensor:
    """Returns the weight if all of it is finite.

    Raises:
        RobopolicyError: an entry is infinite or not a number.
    """
    if not weight.isfinite().all():
        raise RobopolicyError(
            "A weight is infinite or not a number, so there is no Lipschitz bound. The training diverged: "
            "restore an earlier checkpoint or lower the learning rate."
        )
    return weight


def plain_linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """Returns ``nn.Linear`` with copies of ``weight [out, in]`` and ``bias [out]``."""
    outputs, inputs = weight.shape
    layer = nn.Linear(inputs, outputs)
    layer.weight = nn.Parameter(weight.detach().contiguous().clone())
    layer.bias = nn.Parameter(bias.detach().clone())
    return layer.train(False)
