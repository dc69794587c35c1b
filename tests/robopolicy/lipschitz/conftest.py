"""What the tests of Lipschitz nets share: random weights, adversarial pairs, exact arithmetic."""

from __future__ import annotations

import copy

import torch
from hypothesis import settings
from hypothesis import strategies as st

EXACT = 1 + 1e-8  # rounding of float64 in a difference of outputs, which may nearly cancel
few = settings(max_examples=12, deadline=None)
seeds = st.integers(0, 2**31)


def randomize(module, seed, scale):
    """Fills weights with normal numbers of standard deviation ``scale``, biases with ones of at most 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            values = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(values * (scale if parameter.dim() > 1 else min(scale, 1.0)))
    return module


def steepest(net, x, steps=20, distance=0.05):
    """Returns the largest ``|f(x) - f(y)| / |x - y|`` that gradient ascent on pairs finds, in float64."""
    y = x + distance * torch.randn_like(x)
    worst = 0.0
    for _ in range(steps):
        x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
        apart = (x - y).flatten(1).norm(dim=1)
        ratios = (net(x) - net(y)).flatten(1).norm(dim=1) / apart
        worst = max([worst, *ratios[apart > 1e-3].tolist()])  # closer pairs show rounding
        along_x, along_y = torch.autograd.grad(ratios.sum(), [x, y])
        with torch.no_grad():
            x = x + distance * torch.nn.functional.normalize(along_x, dim=1)
            y = y + distance * torch.nn.functional.normalize(along_y, dim=1)
    return worst


def doubled(net):
    """Returns the folded net in float64, with the very weights of float32: exact arithmetic, nearly."""
    return copy.deepcopy(net.fold()).double()
