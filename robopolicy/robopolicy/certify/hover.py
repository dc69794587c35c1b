"""Imitating the expert that holds a quadrotor: how nets of one size fare with few, noisy demonstrations.

Observations are in units of the demonstrations' spread, commands in units of their limits. A net is judged by
its closed-loop cost beside the expert's from the same first states, undisturbed and with every observation
shifted by a greedy adversary, which attacks the expert as well.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robopolicy.certify import quadrotor
from robopolicy.certify.lower_bound import lower_bound
from robopolicy.nets.lipschitz.bounds import eclipse_fast_bound, product_bound
from robopolicy.nets.lipschitz.mlp import LipschitzMlp
from robopolicy_datasets.errors import unknown_name
from robopolicy_datasets.geometry import Array

DEMONSTRATION_STEPS = 150
LABEL_NOISE = 0.15  # standard deviation, in units of the limits
ROLLOUT_STEPS = 300
ROLLOUTS = 48
ATTACK_STEPS = 5
STEEPNESS_POINTS = 500
BATCH = 256
LEARNING_RATE = 3e-3

Command = Callable[[Tensor], Tensor]
"""From observations ``[B, 12]`` to commands ``[B, 4]``, both normalized."""
Build = Callable[[list[float]], nn.Module]
"""Makes a net for the Lipschitz bounds of its outputs."""


@dataclass(frozen=True)
class HoverConfig:
    """One net on one set of demonstrations.

    Attributes:
        net: one of ``NETS``.
        demonstrations: episodes of ``DEMONSTRATION_STEPS`` each.
        budget: ``global`` allows each command the Lipschitz constant of the expert's whole gain,
            ``per_action`` that of its own row.
        share: of the budget that a Lipschitz net is given.
        seed: of demonstrations, weights, batches and first states.
        steps: of Adam, with one cycle of the learning rate.
        weight_decay: AdamW's.
        observation_noise: standard deviation of the noise on observations in training.
    """

    net: str
    demonstrations: int
    budget: str
    share: float
    seed: int
    steps: int
    weight_decay: float
    observation_noise: float


@dataclass(frozen=True)
class Demonstrations:
    """What is learned from.

    Attributes:
        observations: normalized ``[N, 12]``.
        commands: normalized, with the labels' noise ``[N, 4]``.
        spread: of the states, the unit of observations ``[12]``.
    """

    observations: Tensor
    commands: Tensor
    spread: Array

    @property
    def gain(self) -> Array:
        """The expert's gain ``[4, 12]`` in these units."""
        return quadrotor.expert().gain * self.spread / quadrotor.LIMITS[:, None]


def demonstrate(count: int, seed: int) -> Demonstrations:
    """Lets the expert fly from ``count`` first states; the commands are recorded with noise."""
    rng = np.random.default_rng(seed)
    state, expert = quadrotor.first_states(count, rng), quadrotor.expert()
    states, commands = [], []
    for _ in range(DEMONSTRATION_STEPS):
        states.append(state)
        commands.append(expert.command(state))
        state = quadrotor.next_state(state, commands[-1])
    flown = np.concatenate(states)
    spread = flown.std(0)
    labels = np.concatenate(commands) / quadrotor.LIMITS
    labels = labels + LABEL_NOISE * rng.normal(size=labels.shape)
    return Demonstrations(torch.from_numpy(flown / spread).float(), torch.from_numpy(labels).float(), spread)


def _plain(activation: type[nn.Module]) -> Build:
    width = 92
    return lambda bounds: nn.Sequential(
        *(nn.Linear(quadrotor.STATES, width), activation(), nn.Linear(width, width), activation()),
        nn.Linear(width, len(bounds)),
    )


def _lipschitz(layer: str, width: int, depth: int, activation: str = "relu") -> Build:
    return lambda bounds: LipschitzMlp(
        quadrotor.STATES, len(bounds), width, depth, layer, output_bounds=bounds, activation=activation
    )


NETS: Mapping[str, Build] = {
    "mlp_relu": _plain(nn.ReLU),
    "mlp_tanh": _plain(nn.Tanh),
    "spectral": _lipschitz("spectral", 92, 2),
    "aol": _lipschitz("aol", 92, 2, "maxmin"),
    "sandwich": _lipschitz("sandwich", 56, 1),
    "sll": _lipschitz("sll", 66, 2),
    "sll_tanh": _lipschitz("sll_tanh", 66, 2),
}
"""Nets of about ten thousand parameters, built for the bounds of their four outputs."""


def output_bounds(gain: Array, budget: str) -> list[float]:
    """Returns the Lipschitz bound of each command: of the expert's gain, or of its rows.

    Raises:
        ConfigError: the budget is neither ``global`` nor ``per_action``.
    """
    if budget not in ("global", "per_action"):
        raise unknown_name("budget", budget, ["global", "per_action"])
    if budget == "global":
        return [float(np.linalg.norm(gain, 2))] * len(gain)
    return [float(norm) for norm in np.linalg.norm(gain, axis=1)]


def run_cell(config: HoverConfig, disturbances: tuple[float, ...]) -> dict[str, Any]:
    """Trains and judges one net.

    Args:
        config: of the cell.
        disturbances: largest l2 shifts of the normalized observation.

    Returns:
        ``parameters``; ``certified`` and ``lower``: bounds of the net's Lipschitz constant from above and
        below, the outputs in units of their budgets; and ``ratios``: for each disturbance the cost beside
        the expert's from each first state.

    Raises:
        ConfigError: an unknown net or budget.
    """
    if config.net not in NETS:
        raise unknown_name("net", config.net, NETS)
    data = demonstrate(config.demonstrations, config.seed)
    bounds = [config.share * bound for bound in output_bounds(data.gain, config.budget)]
    torch.manual_seed(config.seed)
    net = NETS[config.net](bounds)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    fit(net, data, config)
    plain = net.fold() if isinstance(net, LipschitzMlp) else net
    unit = torch.tensor(bounds)
    some = data.observations[:: max(1, len(data.observations) // STEEPNESS_POINTS)]
    lower = lower_bound(lambda x: plain(x) / unit, some)
    ratios = [
        rollout_costs(plain, data.spread, size, config.seed)
        / expert_costs(config.demonstrations, size, config.seed)
        for size in disturbances
    ]
    return {
        "parameters": parameters,
        "certified": certified_bound(net, bounds),
        "lower": lower.value,
        "ratios": [ratio.tolist() for ratio in ratios],
    }


def fit(net: nn.Module, data: Demonstrations, config: HoverConfig) -> None:
    """Trains a net on the demonstrations, by the squared error."""
    generator = torch.Generator().manual_seed(config.seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, config.steps)
    net.train()
    for _ in range(config.steps):
        rows = torch.randint(len(data.observations), (BATCH,), generator=generator)
        observation = data.observations[rows]
        noise = torch.randn(observation.shape, generator=generator)
        loss = F.mse_loss(net(observation + config.observation_noise * noise), data.commands[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    net.eval().requires_grad_(False)


def certified_bound(net: nn.Module, bounds: list[float]) -> float:
    """Returns an upper bound of the Lipschitz constant of a net whose outputs are divided by ``bounds``."""
    if isinstance(net, LipschitzMlp):
        return product_bound(net.lift) * product_bound(net.hidden) * product_bound(net.readout)
    scaling = nn.Linear(len(bounds), len(bounds), bias=False)
    with torch.no_grad():
        scaling.weight.copy_(torch.diag(1 / torch.tensor(bounds)))
    return eclipse_fast_bound(nn.Sequential(*net.children(), scaling))


@functools.cache
def expert_costs(demonstrations: int, disturbance: float, seed: int) -> Array:
    """Returns the expert's costs ``[ROLLOUTS]``, attacked in the units of its demonstrations."""
    data = demonstrate(demonstrations, seed)
    gain = torch.from_numpy(data.gain).float()
    return rollout_costs(lambda observation: -observation @ gain.T, data.spread, disturbance, seed)


def rollout_costs(command: Command, spread: Array, disturbance: float, seed: int) -> Array:
    """Returns the closed-loop costs ``[ROLLOUTS]``.

    Args:
        command: what flies.
        spread: the unit of observations ``[12]``.
        disturbance: largest l2 shift of each normalized observation.
        seed: of the first states and of the adversary.
    """
    rng = np.random.default_rng([seed, 1])
    state, value = quadrotor.first_states(ROLLOUTS, rng), quadrotor.expert().value
    cost = np.zeros(len(state))
    for _ in range(ROLLOUT_STEPS):
        observation = torch.from_numpy(state / spread).float()
        if disturbance > 0:
            observation = observation + attack(command, state, observation, disturbance, value, rng)
        with torch.no_grad():
            applied = command(observation).clamp(-1, 1).double().numpy() * quadrotor.LIMITS
        cost += quadrotor.step_cost(state, applied)
        state = quadrotor.next_state(state, applied)
    return cost


def attack(
    command: Command,
    state: Array,
    observation: Tensor,
    disturbance: float,
    value: Array,
    rng: np.random.Generator,
) -> Tensor:
    """Returns the shift ``[B, 12]`` that projected gradient ascent finds to make the next state worse.

    Worse is a larger cost to go ``x^T P x`` of the LQR.

    Args:
        command: what is attacked.
        state: the true ones ``[B, 12]``.
        observation: normalized ``[B, 12]``.
        disturbance: largest l2 norm of a shift.
        value: P ``[12, 12]``.
        rng: of the first shifts.
    """
    jacobian = quadrotor.command_jacobian(state)
    shift = _onto_ball(torch.from_numpy(rng.normal(size=state.shape)).float() * 1e3, disturbance)
    for _ in range(ATTACK_STEPS):
        shift = shift.requires_grad_(True)
        applied = command(observation + shift).clamp(-1, 1)
        following = quadrotor.next_state(state, applied.detach().double().numpy() * quadrotor.LIMITS)
        slope = np.einsum("bi,bij->bj", 2 * following @ value, jacobian) * quadrotor.LIMITS
        (ascent,) = torch.autograd.grad(applied, shift, torch.from_numpy(slope).float())
        step = 0.5 * disturbance * F.normalize(ascent, dim=1)
        shift = _onto_ball(shift.detach() + step, disturbance)
    return shift


def _onto_ball(shift: Tensor, radius: float) -> Tensor:
    return shift * (radius / shift.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp_max(1.0)
