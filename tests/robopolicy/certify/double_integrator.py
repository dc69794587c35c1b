"""A point on a line under a linear expert, in the coordinates in which the expert's loop contracts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import solve_discrete_are, sqrtm

from robopolicy.certify.finding import Finding
from robopolicy.certify.linear_loop import loop_of_model
from robopolicy.certify.theorems import Loop

DT = 0.1
DYNAMICS = np.array([[1.0, DT], [0.0, 1.0]])
INPUTS = np.array([[DT**2 / 2], [DT]])


@dataclass(frozen=True)
class DoubleIntegrator:
    """``x+ = A x + B u``; the expert is ``u = K x``, of LQR."""

    dynamics: np.ndarray
    inputs: np.ndarray
    gain: np.ndarray

    @classmethod
    def make(cls) -> DoubleIntegrator:
        riccati = solve_discrete_are(DYNAMICS, INPUTS, np.eye(2), np.eye(1))
        gain = -np.linalg.solve(np.eye(1) + INPUTS.T @ riccati @ INPUTS, INPUTS.T @ riccati @ DYNAMICS)
        root = np.real(sqrtm(riccati))
        back = np.linalg.inv(root)
        return cls(root @ DYNAMICS @ back, root @ INPUTS, gain @ back)

    @property
    def loop(self) -> Loop:
        return loop_of_model(
            self.dynamics, self.inputs, self.gain, kind="certified", assumption="The model is exact."
        )

    @property
    def lipschitz(self) -> Finding:
        return Finding(float(np.linalg.norm(self.gain)), "certified", "The expert is linear.")

    def expert(self, states: np.ndarray) -> np.ndarray:
        return states @ self.gain.T

    def step(self, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        return states @ self.dynamics.T + actions @ self.inputs.T


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
