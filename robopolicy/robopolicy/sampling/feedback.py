"""Feedback: the net is told what would become of its estimate, and estimates again (FlowBender).

After Gilo, Elflein, Sobol, Litany (2026, arXiv 2606.20404). A forward operator, here the controller that will
execute the chunk, is applied to the estimate, and the residual is fed back through further input channels of
the net: *zero-order* the residual itself, so that the operator can be any program; *first-order* the gradient
of its square. The net learns what to make of it.

A chunk of N steps costs 2N evaluations: each step looks ahead and refines. The *shortcut* takes the refined
estimate of the step before in place of the look-ahead. With feedback of any size, and nets that never saw
such estimates, that diverges; so here feedback is bounded, and training shows both kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from robopolicy.sampling.denoiser import Denoiser, InformedDenoiser
from robopolicy_datasets.errors import ConfigError

Operator = Callable[[Tensor], Tensor]
"""Chunks ``[B, T, A]`` to what becomes of them ``[B, T, A]``, in the same units."""
Signal = Callable[[Tensor], Tensor]
"""An estimate ``[B, T, D]`` to the feedback on it ``[B, T, D]``, each number between -1 and 1."""


@dataclass(frozen=True)
class Feedback:
    """How sampled chunks will be executed.

    Attributes:
        operator: action chunks ``[B, T, A]`` in real units, row 0 at the newest observation's step, to what
            the robot makes of them. Zero-order feedback takes any; first-order takes one made of torch.
        shortcut: share of the steps, the last ones, that do without a look-ahead, from 0 to 1.

    Raises:
        ConfigError: the shortcut is no share.
    """

    operator: Operator
    shortcut: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.shortcut <= 1:
            raise ConfigError(f"The feedback's shortcut is {self.shortcut}; give a share from 0 to 1.")

    def probes(self, evaluations: int) -> int:
        """Returns how many of a sampler's evaluations look ahead; the first one always does."""
        return evaluations - min(round(self.shortcut * evaluations), evaluations - 1)


def zero_order(operator: Operator) -> Signal:
    """Returns the feedback that is the residual itself; ``operator`` takes the sampler's numbers."""

    def signal(estimate: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.tanh(operator(estimate) - estimate)

    return signal


def first_order(operator: Operator) -> Signal:
    """Returns the feedback that is the gradient of half the residual's square by the estimate."""

    def signal(estimate: Tensor) -> Tensor:
        with torch.enable_grad():
            point = estimate.detach().clone().requires_grad_()
            (gradient,) = torch.autograd.grad((operator(point) - point).square().sum() / 2, point)
        return torch.tanh(gradient)

    return signal


SIGNALS: Mapping[str, Callable[[Operator], Signal]] = {"zero": zero_order, "first": first_order}
"""By the order that a setting gives."""


def bend(denoiser: InformedDenoiser, signal: Signal, probes: int) -> Denoiser:
    """Returns a denoiser that refines its estimates by feedback on them; it serves one sample.

    Args:
        denoiser: trained with feedback.
        signal: the feedback on an estimate.
        probes: so many calls look ahead; later ones take the estimate of the call before.
    """
    calls = 0
    newest: Tensor | None = None

    def bent(x: Tensor, level: Tensor) -> Tensor:
        nonlocal calls, newest
        estimate = denoiser(x, level) if newest is None or calls < probes else newest
        calls += 1
        newest = denoiser(x, level, feedback=signal(estimate.float()))
        return newest

    return bent
