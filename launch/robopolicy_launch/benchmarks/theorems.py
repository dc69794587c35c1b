"""How loose the certificates' theorems are: their bounds beside what an adversary reaches.

On a double integrator with a linear expert, where every constant is known. The nets are certified, so that no
ratio is below 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import mse_loss

from robopolicy.certify.covering import box_covering_radius
from robopolicy.certify.finding import Finding
from robopolicy.certify.theorems import Cost, expert_deviation, imitation_error, regret
from robopolicy.nets.lipschitz.mlp import LipschitzMlp
from robopolicy_launch.benchmarks import Row
from robopolicy_launch.benchmarks._double_integrator import Array, DoubleIntegrator

REGION = 4.0  # half the side of the box that demonstrations fill; runs start in its middle half
STEPS = 400  # of a run: 0.99 ** 400 is 2 %
COST = Cost(state=1.0, action=1.0, discount=0.99)


@dataclass(frozen=True)
class Cell:
    """One net and one adversary.

    Attributes:
        demonstrations: how many states the net is trained on.
        budget: its Lipschitz constant, in units of the expert's.
        disturbance: largest error of a measurement.
    """

    demonstrations: int
    budget: float
    disturbance: float

    @property
    def name(self) -> str:
        """Short, for a key."""
        return f"n{self.demonstrations}_alpha{self.budget:g}_zeta{self.disturbance:g}".replace(".", "p")


CELLS = (
    Cell(100, 1.0, 0.1),
    Cell(1000, 1.0, 0.1),
    Cell(10_000, 1.0, 0.1),
    Cell(10_000, 1.0, 0.0),
    Cell(10_000, 0.5, 0.1),
    Cell(10_000, 1.5, 0.1),
)


def run(cells: Sequence[Cell] = CELLS, *, training_steps: int = 2000, runs: int = 100) -> Iterator[Row]:
    """Measures every cell: error, distance from the expert's trajectory and regret.

    Args:
        cells: what is measured.
        training_steps: of each net.
        runs: closed-loop runs of each net.
    """
    system = DoubleIntegrator.make()
    for cell in cells:
        yield from _measure(system, cell, training_steps, runs)


def _measure(system: DoubleIntegrator, cell: Cell, training_steps: int, runs: int) -> Iterator[Row]:
    rng = np.random.default_rng(100_000)
    demonstrated = rng.uniform(-REGION, REGION, (cell.demonstrations, 2))
    starts = rng.uniform(-REGION / 2, REGION / 2, (runs, 2))
    net = _imitate(system, demonstrated, cell.budget * system.lipschitz.value, training_steps)
    alpha = Finding(net.lipschitz_bound(), "certified", "From the weights.")
    corner = np.full(2, REGION)
    error = imitation_error(
        Finding(_largest_error(system, net, demonstrated), "certified", "Measured."),
        box_covering_radius(demonstrated, -corner, corner, nodes=400),
        alpha,
        system.lipschitz,
        trivial=math.inf,
    )
    states, actions = system.run(system.attacked(net, cell.disturbance), starts, STEPS)
    best, expert_actions = system.run(system.expert, starts, STEPS)
    strayed = float(np.linalg.norm(states - best, axis=-1).max())
    more = float(np.abs(_discounted(states, actions) - _discounted(best, expert_actions)).max())
    bounds = {
        "deviation": expert_deviation(
            error, alpha, system.loop, disturbance=cell.disturbance, trivial=math.inf
        ),
        "regret": regret(
            error, alpha, system.lipschitz, system.loop, COST, disturbance=cell.disturbance, trivial=math.inf
        ),
    }
    grid = np.stack(np.meshgrid(*[np.linspace(-REGION, REGION, 300)] * 2), axis=-1).reshape(-1, 2)
    reached = {"deviation": strayed, "regret": more}
    yield Row(f"error_{cell.name}", error.value, _largest_error(system, net, grid), "action", "on a grid")
    for name, bound in bounds.items():
        yield Row(f"{name}_{cell.name}", bound.value, reached[name], "l2", "under attack")


def _imitate(system: DoubleIntegrator, states: Array, lipschitz: float, steps: int) -> LipschitzMlp:
    torch.manual_seed(0)
    net = LipschitzMlp(2, 1, width=24, depth=3, layer="sll", output_bounds=lipschitz)
    inputs, targets = (torch.tensor(values).float() for values in (states, system.expert(states)))
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        batch = torch.randint(len(inputs), (256,))
        optimizer.zero_grad()
        mse_loss(net(inputs[batch]), targets[batch]).backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def _largest_error(system: DoubleIntegrator, net: LipschitzMlp, states: Array) -> float:
    with torch.no_grad():
        actions = net(torch.tensor(states).float()).double().numpy()
    return float(np.abs(actions - system.expert(states)).max())


def _discounted(states: Array, actions: Array) -> Array:
    """Returns each run's cost ``[N]``, whose Lipschitz constants are those of COST."""
    costs = np.linalg.norm(states, axis=-1) + np.linalg.norm(actions, axis=-1)
    return np.asarray((COST.discount ** np.arange(len(costs))[:, None] * costs).sum(0))
