"""How far an output was really seen to move: the lower bound beside every certified upper bound.

The map is any function of batches whose rows do not depend on each other, such as a policy's chunk for
a window of observations, the noise being the same for all. Two searches: the largest singular value of the
Jacobian at given points (power iteration), and pairs of points that gradient ascent drives towards the
steepest secant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]
"""From inputs ``[N, n]`` to outputs ``[N, ...]``, row by row."""

POWER_STEPS = 12
ASCENT_STEPS = 40
ASCENT_RATE = 0.03  # of Adam, in units of the inputs
CLOSEST = 0.02  # pairs are kept this far apart: float32 rounds
FIRST_DISTANCE = 0.2


@dataclass(frozen=True)
class LowerBound:
    """What was found.

    Attributes:
        jacobian: norms of the Jacobian at the points ``[N]``, each reached from below.
        secant: steepest of all pairs.
    """

    jacobian: Tensor
    secant: float

    @property
    def value(self) -> float:
        """The largest of all; no Lipschitz constant is smaller."""
        return max(float(self.jacobian.max()), self.secant)


def lower_bound(function: Map, points: Tensor, *, seed: int = 0, pairs: int = 16) -> LowerBound:
    """Searches from given points for where the map is steepest.

    Args:
        function: the map.
        points: ``[N, n]``.
        seed: of the first directions.
        pairs: at how many of the steepest points pairs are tried.
    """
    norms, directions = jacobian_norms(function, points, seed=seed)
    steepest = norms.argsort(descending=True)[:pairs]
    secants = _ascend(function, points[steepest], directions[steepest])
    return LowerBound(norms, float(secants.max()))


def jacobian_norms(function: Map, points: Tensor, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Returns the largest singular values of the Jacobians at points, and their directions.

    A step of the power iteration pushes a direction through the map by a difference and pulls the result back
    by the gradient. What is reported is ``|J^T u|`` of a unit u: exact, and never above the largest.

    Args:
        function: the map; needs no second derivative.
        points: ``[N, n]``.
        seed: of the first directions.

    Returns:
        norms ``[N]`` and unit directions ``[N, n]``.
    """
    generator = torch.Generator().manual_seed(seed)
    best = _unit(torch.randn(points.shape, generator=generator).to(points))
    direction, norms = best, torch.zeros(len(points)).to(points)
    points = points.detach().requires_grad_(True)
    output = function(points)
    for _ in range(POWER_STEPS):
        with torch.no_grad():
            step = CLOSEST / 2 * direction
            pushed = (function(points + step) - function(points - step)).flatten(1)
        (pulled,) = torch.autograd.grad(output, points, _unit(pushed).view_as(output), retain_graph=True)
        norm, direction = pulled.norm(dim=1), _unit(pulled)
        best = torch.where((norm > norms)[:, None], direction, best)
        norms = torch.maximum(norms, norm)
    return norms, best


def _ascend(function: Map, points: Tensor, directions: Tensor) -> Tensor:
    """Returns the steepest secant ``[N]`` found from each point."""
    middle = points.detach().clone().requires_grad_(True)
    apart = (FIRST_DISTANCE * directions).requires_grad_(True)
    optimizer = torch.optim.Adam([middle, apart], lr=ASCENT_RATE)
    best = torch.zeros(len(points)).to(points)
    for _ in range(ASCENT_STEPS):
        one, other = function(middle + apart / 2), function(middle - apart / 2)
        slope = (one - other).flatten(1).norm(dim=1) / apart.norm(dim=1)
        best = torch.maximum(best, slope.detach())
        middle.grad, apart.grad = torch.autograd.grad(-slope.clamp_min(1e-12).log().sum(), [middle, apart])
        optimizer.step()
        with torch.no_grad():
            apart.mul_((CLOSEST / apart.norm(dim=1, keepdim=True)).clamp_min(1.0))
    return best


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=1, keepdim=True).clamp_min(1e-30)
