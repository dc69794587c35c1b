"""Real-time chunking in pick and place: the jump where one chunk follows another, and success, by delay.

An inference takes ``delay`` control steps, in which the robot plays on from the chunk before. *Plain*
policies switch to the new chunk then; *pulled* ones continue the old chunk by guidance, in 5 or 10 steps;
*trained* ones were trained with known beginnings. All are taught once, by the task's recipe but for longer
chunks and fewer steps; what is there already is used again. The seeds of the episodes are for reporting.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from omegaconf import MISSING

from robopolicy.checkpoint import find_checkpoint, load_policy
from robopolicy.evaluation.statistics import wilson_interval
from robopolicy.policies.generative import FlowPolicy
from robopolicy.sampling.flow import FlowSampler
from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.registry import tasks
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_drivers.interfaces import Prefix, noise_seed
from robopolicy_launch import console
from robopolicy_launch.benchmarks import Row
from robopolicy_launch.benchmarks._timing import threads
from robopolicy_launch.cells import Cells, digest
from robopolicy_launch.settings import compose, registered_name
from robopolicy_launch.stages.collecting import collect
from robopolicy_launch.stages.training import train

GROUPS: dict[str, str | None] = {
    "teleop": "scripted",
    "task": "pick_place_state",
    "policy": "flow",
    "trainer": "default",
    "recipe": "pick_place_state",
}
POSITIONAL: tuple[str, ...] = ()
FOLDER = Path("runs/bench/chunking")
LONGEST_PREFIX = 8
# twice the longest delay is played before a chunk comes: what it continues has to last longer
TAUGHT = ("policy.horizon=24", "policy.noise_samples=1", "trainer.steps=9000")
PLACES = slice(3)  # the position in an action [m]
Array = NDArray[np.float64]


@dataclass
class Settings:
    """What teaches the policies.

    Attributes:
        demonstrations: episodes to collect.
        teleop: who demonstrates.
        task: what is demonstrated.
        policy: what is trained.
        trainer: how it is trained.
    """

    demonstrations: int = 600
    teleop: Any = MISSING
    task: Any = MISSING
    policy: Any = MISSING
    trainer: Any = MISSING


class Method(NamedTuple):
    """How chunks follow each other.

    Attributes:
        longest_prefix: that the policy was trained with.
        continues: whether it is told what it is to continue.
        steps: in which the policy samples.
    """

    longest_prefix: int
    continues: bool
    steps: int = 5


METHODS = {
    "plain": Method(0, False),
    "pulled": Method(0, True),
    "pulled10": Method(0, True, steps=10),
    "trained": Method(LONGEST_PREFIX, True),
}


def run(
    *,
    folder: Path = FOLDER,
    delays: Sequence[int] = (2, 4, 6, 8),
    episodes: int = 100,
    arguments: Sequence[str] = (),
) -> Iterator[Row]:
    """Measures all methods at all delays.

    Args:
        folder: for demonstrations, policies and cells.
        delays: of an inference, in control steps.
        episodes: of each cell.
        arguments: further settings of what teaches the policies.
    """
    words = [*TAUGHT, *arguments]
    folder = folder / digest({"words": words})  # on which all that is kept depends
    for delay in delays:
        figures: dict[str, dict[str, float]] = {}
        for name, method in METHODS.items():
            settings = {"method": name, "delay": delay, "episodes": episodes}
            compute = partial(_cell, folder, method, delay, episodes, words)
            found = figures[name] = Cells(folder / "cells")(settings, compute)
            low, high = wilson_interval(round(found["success"] * episodes), episodes)
            console.line(
                f"delay {delay}, {name}: success {found['success']:.2f} ({low:.2f} to {high:.2f}), jump "
                f"{found['jump_mm']:.2f} mm, kick {found['kick_mm']:.2f} mm (within chunks "
                f"{found['kick_within_mm']:.2f} mm)"
            )
        for name in [name for name, method in METHODS.items() if method.continues]:
            for key, unit in (("jump_mm", "mm"), ("kick_mm", "mm"), ("success", "share")):
                ours, plain = figures[name][key], max(figures["plain"][key], 1e-9)
                yield Row(f"{name}_{key.removesuffix('_mm')}_d{delay}", ours, plain, unit, "plain switching")


def _cell(folder: Path, method: Method, delay: int, episodes: int, words: Sequence[str]) -> dict[str, float]:
    policy, task = _policy(folder, method.longest_prefix, words)
    policy.sampler = FlowSampler("euler", method.steps)
    environment = tasks.build(registered_name("task", task), task)
    results = []
    with threads(1):
        try:
            for seed in range(100_000, 100_000 + episodes):
                results.append(_episode(policy, environment, seed, delay, method.continues))
        finally:
            environment.close()
    jumps, kicks, within = (
        np.concatenate([getattr(result, name) for result in results]) for name in ("jumps", "kicks", "within")
    )
    return {
        "success": float(np.mean([result.success for result in results])),
        "jump_mm": 1e3 * float(jumps.mean()),
        "kick_mm": 1e3 * float(kicks.mean()),
        "kick_within_mm": 1e3 * float(within.mean()),
        "seams": float(len(jumps)),
    }


def _policy(folder: Path, longest_prefix: int, words: Sequence[str]) -> tuple[FlowPolicy, Any]:
    """Returns a policy and its task; collects and trains what is not there yet."""
    taught = [f"policy.longest_prefix={longest_prefix}", *words]
    settings = compose("bench chunking", sys.modules[__name__], taught).settings
    store, run_folder = folder / "demos.zarr", folder / f"prefix{longest_prefix}"
    if not (run_folder / "done").exists():
        if not store.exists():
            half = store.with_name("half.zarr")  # an interrupted collection has to begin anew
            collect(
                settings.teleop,
                settings.task,
                half,
                episodes=settings.demonstrations,
                seed=0,
            )
            half.rename(store)
        train(settings.policy, settings.trainer, settings.task, [DemoStore.open(store)], run_folder)
        (run_folder / "done").touch()
    policy = load_policy(find_checkpoint(run_folder))
    if not isinstance(policy, FlowPolicy):
        raise ConfigError(f"The suite trained a {type(policy).__name__}; this suite is about policy=flow.")
    return policy, settings.task


class _Result(NamedTuple):
    """What came of an episode; distances in m, one for each seam (``within``: for each row)."""

    success: bool
    jumps: list[float]
    kicks: list[float]
    within: list[float]


def _episode(policy: FlowPolicy, environment: Any, seed: int, delay: int, continues: bool) -> _Result:
    """Runs an episode in which chunks come ``delay`` steps after their observation."""
    every = max(delay, policy.action_steps)  # steps from one inference to the next
    observation, _ = environment.reset(seed=seed)
    history = deque([observation] * policy.observation_steps, maxlen=policy.observation_steps)
    old: Array | None = None
    step, result, info = 0, _Result(False, [], [], []), {"success": False}
    while True:
        window = {f.key: np.stack([o[f.key] for o in history])[None] for f in policy.spec.observation}
        prefix = None if old is None or not continues else Prefix(old[every:], delay)
        new = policy.infer(window, seeds=[noise_seed(seed, step)], prefix=prefix)[0].astype(np.float64)
        result.within.extend(_kick(new[:, PLACES]))
        actions = new[:every]
        if old is not None:
            played, rest = old[: every + delay, PLACES], old[every + delay :, PLACES]
            going_on = rest[0] if len(rest) else 2 * played[-1] - played[-2]
            first = new[delay, PLACES]
            result.jumps.append(float(np.linalg.norm(first - going_on)))
            result.kicks.extend(_kick(np.stack([*played[-2:], first])))
            actions = np.concatenate([old[every : every + delay], new[delay:every]])
        for action in actions:
            observation, _, terminated, truncated, info = environment.step(action.astype(np.float32))
            history.append(observation)
            step += 1
            if terminated or truncated:
                return result._replace(success=bool(info["success"]))
        old = new


def _kick(places: Array) -> list[float]:
    """Returns the second differences of a path ``[n, 3]``, how much the motion changes from step to step."""
    return [float(size) for size in np.linalg.norm(np.diff(places, n=2, axis=0), axis=1)]
