"""A point on a line under a linear expert, in coordinates in which the expert's every step contracts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import solve_discrete_are, sqrtm
from torch import Tensor

from robopolicy.certify.finding import Finding
from robopolicy.certify.linear_loop import loop_of_model
from robopolicy.certify.theorems import Loop

Array = NDArray[Any]
DT = 0.1  # s
DYNAMICS = np.array([[1.0, DT], [0.0, 1.0]])
INPUTS = np.array([[DT**2 / 2], [DT]])
STATE_COST, ACTION_COST = np.diag([1.0, 0.1]), np.array([[0.1]])
ATTACK_STEPS = 5


@dataclass(frozen=True)
class DoubleIntegrator:
    """``x+ = A x + B u`` with the expert ``u = K x``.

    Attributes:
        dynamics: A ``[2, 2]``.
        inputs: B ``[2, 1]``.
        gain: K ``[1, 2]``.
    """

    dynamics: Array
    inputs: Array
    gain: Array

    @classmethod
    def make(cls) -> DoubleIntegrator:
        """Returns it with the linear-quadratic regulator as its expert, its cost-to-go being ``|x|^2``."""
        riccati = solve_discrete_are(DYNAMICS, INPUTS, STATE_COST, ACTION_COST)
        effort = ACTION_COST + INPUTS.T @ riccati @ INPUTS
        gain = -np.linalg.solve(effort, INPUTS.T @ riccati @ DYNAMICS)
        root = np.real(sqrtm(riccati))
        back = np.linalg.inv(root)
        return cls(root @ DYNAMICS @ back, root @ INPUTS, gain @ back)

    @property
    def loop(self) -> Loop:
        """The expert's closed loop."""
        return loop_of_model(
            self.dynamics, self.inputs, self.gain, kind="certified", assumption="The model is exact."
        )

    @property
    def lipschitz(self) -> Finding:
        """The expert's Lipschitz constant."""
        return Finding(float(np.linalg.norm(self.gain)), "certified", "The expert is linear.")

    def expert(self, states: Array) -> Array:
        """Returns the expert's actions ``[N, 1]`` at states ``[N, 2]``."""
        return states @ self.gain.T

    def step(self, states: Array, actions: Array) -> Array:
        """Returns the next states ``[N, 2]``."""
        following: Array = states @ self.dynamics.T + actions @ self.inputs.T
        return following

    def run(self, act: Callable[[Array], Array], starts: Array, steps: int) -> tuple[Array, Array]:
        """Returns the states ``[steps, N, 2]`` and the actions ``[steps, N, 1]`` of closed-loop runs."""
        states, visited, actions = starts, [], []
        for _ in range(steps):
            action = act(states)
            visited.append(states)
            actions.append(action)
            states = self.step(states, action)
        return np.array(visited), np.array(actions)

    def attacked(self, net: Callable[[Tensor], Tensor], disturbance: float) -> Callable[[Array], Array]:
        """Returns a policy whose measurement an adversary moves so that the next state is as far as it can.

        The adversary is greedy: projected gradient ascent on the length of the next state.

        Args:
            net: from states ``[N, 2]`` to actions ``[N, 1]``.
            disturbance: largest length of the error of a measurement.
        """
        dynamics, inputs = (torch.tensor(matrix).float() for matrix in (self.dynamics, self.inputs))

        def act(states: Array) -> Array:
            true = torch.tensor(states).float()
            moved = torch.zeros_like(true)
            for _ in range(ATTACK_STEPS if disturbance else 0):
                moved.requires_grad_(True)
                following = true @ dynamics.T + net(true + moved) @ inputs.T
                (gradient,) = torch.autograd.grad(following.square().sum(), moved)
                moved = moved.detach() + 0.5 * disturbance * _unit(gradient)
                moved = moved * (disturbance / moved.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp_max(
                    1.0
                )
            with torch.no_grad():
                return np.asarray(net(true + moved).double().numpy())

        return act


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=1, keepdim=True).clamp_min(1e-12)
