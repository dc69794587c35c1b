"""Guidance: a cost of the chunk, in real units, steers its sampling; the policy needs no training for it.

At every step the estimate of the clean chunk goes a little down the gradient of the cost. The step grows
with the share of the signal, ``scale * alpha_bar``, as in embodiment-aware guidance (arXiv 2510.02614,
eq. 8): weak while the chunk is noise, full at the end. There the cost is asked of the noisy chunk; here of
the estimate, which is a chunk that could be played.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robopolicy.sampling.denoiser import Denoiser, NoisePath, signal_share
from robopolicy_datasets.errors import ConfigError, SpecError

Array = NDArray[Any]
Cost = Callable[[Tensor], Tensor]
"""Action chunks ``[B, T, A]`` in real units, row 0 at the newest observation's step, to costs ``[B]``."""


@dataclass(frozen=True)
class Guidance:
    """A cost that sampled chunks should keep low.

    Attributes:
        cost: differentiable in torch; see ``with_gradient`` for one that brings its own gradient.
        scale: how far down its gradient, taken by the sampler's normalized numbers, an estimate goes.
        longest: way that a row of an estimate may go at once, in the sampler's numbers. Where the cost is
            steep a large scale would else throw chunks about.

    Raises:
        ConfigError: the scale is negative or not finite, or the longest way is not above 0.
    """

    cost: Cost
    scale: float = 1.0
    longest: float = math.inf

    def __post_init__(self) -> None:
        if not 0 <= self.scale < math.inf or not self.longest > 0:
            raise ConfigError(
                f"The guidance's scale is {self.scale} and its longest way {self.longest}; give a finite "
                "scale from 0, and a way above 0."
            )


def guide(denoiser: Denoiser, path: NoisePath, guidance: Guidance) -> Denoiser:
    """Returns a denoiser whose estimates keep a cost low.

    Args:
        denoiser: to be guided; no gradient is taken through it.
        path: on which it denoises.
        guidance: its cost being one of estimates ``[B, T, D]`` in the sampler's numbers.

    Raises:
        SpecError: the cost does not give one number for each chunk.
    """

    def guided(x: Tensor, level: Tensor) -> Tensor:
        estimate = denoiser(x, level).detach()
        with torch.enable_grad():
            point = estimate.clone().requires_grad_()
            costs = guidance.cost(point)
            if costs.shape != estimate.shape[:1]:
                raise SpecError(
                    f"The guidance's cost has the shape {list(costs.shape)} for {len(estimate)} chunks; one "
                    "number for each is needed."
                )
            (gradient,) = torch.autograd.grad(costs.sum(), point)
        way = guidance.scale * gradient
        length = torch.linalg.vector_norm(way, dim=-1, keepdim=True).clamp_min(1e-12)
        way = way * (guidance.longest / length).clamp_max(1.0)
        return estimate - signal_share(path, level)[:, None, None] * way

    return guided


def with_gradient(function: Callable[[Array], tuple[Array, Array]]) -> Cost:
    """Returns a cost whose gradient is not torch's, e.g. a controller's.

    Args:
        function: action chunks ``[B, T, A]`` in real units to their costs ``[B]`` and the gradients
            ``[B, T, A]``, all float64 numpy.
    """

    class WithGradient(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, actions: Tensor) -> Tensor:
            costs, gradient = function(actions.detach().cpu().double().numpy())
            context.gradient = torch.from_numpy(np.asarray(gradient)).to(actions)
            return torch.from_numpy(np.asarray(costs)).to(actions)

        @staticmethod
        def backward(context: Any, *above: Tensor) -> Tensor:
            return above[0][:, None, None] * context.gradient

    def cost(actions: Tensor) -> Tensor:
        costs: Tensor = WithGradient.apply(actions)
        return costs

    return cost
