"""Feedback against guidance on a toy: way-points around an obstacle for robots of unknown speed limits.

A chunk of 16 way-points leads to a goal, left or right of what is in the way; no observation tells how fast
the robot is. *Raw* policies learn the demonstrations, *executed* ones what random robots make of them, and
*zero* and *first* are told while they sample what this robot would make of their estimate. Guidance, by the
gradient of the tracking error, is tuned: its scale, and how far it may go at once, are chosen on tests of
their own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from robopolicy.policies.configs import FeedbackConfig, FlowConfig, MlpConfig
from robopolicy.policies.generative import FlowPolicy
from robopolicy.sampling.feedback import Feedback
from robopolicy.sampling.guidance import Guidance
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_launch import console
from robopolicy_launch.benchmarks import Row
from robopolicy_launch.benchmarks._timing import threads
from robopolicy_launch.cells import Cells

FOLDER = Path("runs/bench/flowbender")
HORIZON, BATCH = 16, 256
SLOWEST, FASTEST = 0.06, 0.30  # speed limits [m a step]
NEIGHBOURS = 128  # demonstrations that a sample is compared with
SCALES = (0.3, 1.0, 3.0, 10.0, 30.0)
LONGEST = (0.03, 0.1, 0.3, math.inf)
SHORTCUTS = (0.0, 0.5, 1.0)
GOAL = Feature("goal", (2,), kind="position", unit="m")
LIMIT = Feature("speed_limit", (1,), unit="m")
ACTION = Feature("action", (2,), kind="position", unit="m")


def demonstrate(goal: Tensor, generator: torch.Generator) -> Tensor:
    """Returns way-points ``[B, 16, 2]`` [m] from the origin to goals ``[B, 2]``, around on a random side."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(goal), 1, generator=generator)

    time = torch.arange(1, HORIZON + 1) / HORIZON
    haste, width = uniform(2.0, 4.0), uniform(0.5, 0.7)
    side = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    progress = time**haste / (time**haste + (1 - time) ** haste)
    bow = side * width * torch.sin(torch.pi * progress)
    return progress[..., None] * goal[:, None] + torch.stack([torch.zeros_like(bow), bow], dim=-1)


def track(chunk: Tensor, limit: Tensor) -> Tensor:
    """Returns what a robot of speed limit ``[B, 1]`` [m a step] makes of way-points ``[B, T, 2]``."""
    place, places = torch.zeros_like(chunk[:, 0]), []
    for target in chunk.unbind(1):
        way = target - place
        length = way.square().sum(-1, keepdim=True).clamp_min(1e-12).sqrt()
        place = place + way * (limit / length).clamp_max(1.0)
        places.append(place)
    return torch.stack(places, dim=1)


class Tests(NamedTuple):
    """Goals ``[N, 2]`` and limits ``[N, 1]``, and feasible demonstrations for each ``[N, K, 16, 2]``."""

    goal: Tensor
    limit: Tensor
    feasible: Tensor


def make_tests(count: int, seed: int) -> Tests:
    """Returns random tests."""
    generator = torch.Generator().manual_seed(seed)
    goal, limit = _draw(count, generator)
    many = demonstrate(goal.repeat_interleave(NEIGHBOURS, 0), generator)
    executed = track(many, limit.repeat_interleave(NEIGHBOURS, 0))
    return Tests(goal, limit, executed.unflatten(0, (count, NEIGHBOURS)))


def measure(chunk: Tensor, tests: Tests) -> dict[str, float]:
    """Returns how far chunks ``[N, 16, 2]`` are from what is made of them, and from demonstrations [m]."""
    error = (track(chunk, tests.limit) - chunk).norm(dim=-1)
    distance = (chunk[:, None] - tests.feasible).norm(dim=-1).mean(-1).amin(-1)
    figures = {"tracking": error.mean(), "largest": error.amax(-1).mean(), "distance": distance.mean()}
    return {name: float(value) for name, value in figures.items()}


class Kind(NamedTuple):
    """What a policy learns.

    Attributes:
        executed: learns what random robots make of demonstrations, not these themselves.
        sees_limit: observes the robot's speed limit.
        order: of the feedback.
    """

    executed: bool
    sees_limit: bool = False
    order: str = "none"


KINDS = {
    "raw": Kind(executed=False),
    "executed": Kind(executed=True),
    "oracle": Kind(executed=True, sees_limit=True),
    "zero": Kind(executed=True, order="zero"),
    "first": Kind(executed=True, order="first"),
}


def teach(kind: Kind, seed: int, steps: int) -> FlowPolicy:
    """Trains a policy."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    config = FlowConfig(
        observation_steps=1,
        action_steps=HORIZON,
        horizon=HORIZON,
        net="mlp",
        mlp=MlpConfig(width=80, blocks=3, embedding=64),
        sampling_steps=10,
        feedback=FeedbackConfig(order=kind.order),
    )
    seen = (GOAL, LIMIT) if kind.sees_limit else (GOAL,)
    policy = FlowPolicy(config, Spec(seen, (ACTION,)), 0.1)

    def batch(count: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        goal, limit = _draw(count, generator)
        action = demonstrate(goal, generator)
        if kind.executed:
            action = track(action, limit)
        return _observe(kind, goal, limit), action, limit

    observation, action, _ = batch(1024)
    windows = {key: value.numpy() for key, value in observation.items()}
    policy.fit_normalizer(
        {key: value[:, 0] for key, value in windows.items()},
        {"observation": windows, "action": action.numpy()},
    )
    optimizer = torch.optim.AdamW(policy.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(steps):
        observation, action, limit = batch(BATCH)
        operator = _robot(limit) if kind.order != "none" else None
        optimizer.zero_grad()
        policy.loss({"observation": observation, "action": action}, generator, operator).backward()
        optimizer.step()
        schedule.step()
    return policy.eval()


def variants(name: str, limit: Tensor) -> Iterator[tuple[str, Guidance | None, Feedback | None]]:
    """Yields the ways to sample from a kind of policy: name, guidance and feedback."""
    robot = _robot(limit)

    def tracking(actions: Tensor) -> Tensor:
        return (robot(actions) - actions).square().sum((1, 2))

    if KINDS[name].order != "none":
        for shortcut in SHORTCUTS:
            yield f"{name}_shortcut{shortcut:g}", None, Feedback(robot, shortcut)
        return
    yield name, None, None
    if not KINDS[name].sees_limit:
        for scale, longest in itertools.product(SCALES, LONGEST):
            yield f"{name}_guided{scale:g}_{longest:g}", Guidance(tracking, scale, longest), None


def run(
    *, folder: Path = FOLDER, seeds: Sequence[int] = (0, 1, 2), steps: int = 1000, tests: int = 500
) -> Iterator[Row]:
    """Trains and tests all policies.

    Args:
        folder: for the cells.
        seeds: of the policies.
        steps: of a training.
        tests: number of tests of each way to sample.
    """
    means: dict[str, float] = {}
    for name in KINDS:
        cells = []
        for seed in seeds:
            ways = [way for way, _, _ in variants(name, torch.zeros(0, 1))]
            settings = {"kind": name, "seed": seed, "steps": steps, "tests": tests, "ways": ways}
            cells.append(Cells(folder)(settings, partial(_cell, name, seed, steps, tests)))
        for key in cells[0]:
            values = [figures[key] for figures in cells]
            means[key] = float(np.mean(values))
            if key.startswith("report"):
                console.line(f"{key}: {means[key]:.4f} ({min(values):.4f} to {max(values):.4f})")
    ways = [key.split("/")[1] for key in means if key.startswith("report") and key.endswith("tracking")]
    best = min(
        (way for way in ways if "guided" in way),
        key=lambda way: means[f"tune/{way}/tracking"] + means[f"tune/{way}/distance"],
    )
    for way in ways:
        for metric in ("tracking", "distance"):
            ours, reference = means[f"report/{way}/{metric}"], means[f"report/{best}/{metric}"]
            yield Row(f"{way.replace('.', '_')}_{metric}", ours, reference, "m", best)


def _cell(name: str, seed: int, steps: int, count: int) -> Mapping[str, float]:
    figures: dict[str, float] = {}
    with threads(1):
        policy = teach(KINDS[name], seed, steps)
        for use, first in (("tune", 1_000), ("report", 100_000)):
            tests = make_tests(count, first + seed)
            noise = torch.randn(count, HORIZON, 2, generator=torch.Generator().manual_seed(first + seed))
            observation = _observe(KINDS[name], tests.goal, tests.limit)
            for way, guidance, feedback in variants(name, tests.limit):
                with torch.no_grad():
                    chunk = policy.sample(observation, noise, guidance=guidance, feedback=feedback)
                figures |= {f"{use}/{way}/{key}": value for key, value in measure(chunk, tests).items()}
    return figures


def _draw(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    drawn = torch.rand(count, 2, generator=generator)
    goal = torch.stack([torch.ones(count), 0.4 * drawn[:, 0] - 0.2], dim=-1)
    return goal, SLOWEST + (FASTEST - SLOWEST) * drawn[:, 1:]


def _observe(kind: Kind, goal: Tensor, limit: Tensor) -> dict[str, Tensor]:
    observation = {"goal": goal[:, None]}
    return {**observation, "speed_limit": limit[:, None]} if kind.sees_limit else observation


def _robot(limit: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda chunk: track(chunk, limit)
