"""Small ReLU nets of a known Lipschitz constant."""

from __future__ import annotations

import numpy as np
import torch

from robopolicy.certify.finding import Finding


def spectral_net(lipschitz: float, *, seed: int, width: int = 24) -> torch.nn.Sequential:
    """Two ReLU layers of random weights whose product of norms is ``lipschitz``."""
    torch.manual_seed(seed)
    layers = [torch.nn.Linear(2, width), torch.nn.Linear(width, width), torch.nn.Linear(width, 1)]
    with torch.no_grad():
        for layer in layers:
            layer.weight /= torch.linalg.matrix_norm(layer.weight, 2)
        layers[-1].weight *= lipschitz
    return torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])


def product_bound(net: torch.nn.Sequential) -> Finding:
    """The product of the layers' norms."""
    norms = [float(torch.linalg.matrix_norm(layer.weight.detach().double(), 2)) for layer in net[::2]]
    return Finding(float(np.prod(norms)), "certified", "The product of the layers' norms.")


def imitate(net: torch.nn.Sequential, states: np.ndarray, actions: np.ndarray, *, lipschitz: float) -> None:
    """Trains by projected gradient steps: after each one every layer is no longer than it may be."""
    inputs, targets = torch.tensor(states).float(), torch.tensor(actions).float()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    limits = (1.0, 1.0, lipschitz)
    for _ in range(200):
        optimizer.zero_grad()
        (net(inputs) - targets).square().mean().backward()
        optimizer.step()
        with torch.no_grad():
            for layer, limit in zip(net[::2], limits, strict=True):
                norm = torch.linalg.matrix_norm(layer.weight, 2)
                layer.weight *= (limit / norm).clamp_max(1.0)
