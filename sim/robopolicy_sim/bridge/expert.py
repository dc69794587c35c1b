"""Demonstrations by the expert that a foreign environment brings along."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.registry import load_target
from robopolicy_datasets.store import EpisodeInfo
from robopolicy_sim.bridge.configs import ForeignExpertConfig
from robopolicy_sim.bridge.environment import BridgedEnv
from robopolicy_sim.successes import Episode, successes

EXPERT = "expert_action"
"""Method of the foreign environment that returns the action for its present state."""


def demonstrate_episode(env: BridgedEnv, seed: int) -> tuple[dict[str, NDArray[Any]], bool]:
    """Lets the expert act from reset to end.

    Args:
        env: whose foreign environment has a method ``expert_action()``.
        seed: of the episode.

    Returns:
        The data, ``[T, ...]`` for every key of the environment's Spec, and whether it succeeded.

    Raises:
        SimulationError: there is no expert, or the environment failed.
    """
    observation, _ = env.reset(seed=seed)
    rows: list[dict[str, NDArray[Any]]] = []
    over = False
    while not over:
        action = np.asarray(env.call(EXPERT), dtype=np.float32)
        rows.append({**observation, "action": action})
        observation, _, terminated, truncated, info = env.step(action)
        over = terminated or truncated
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}, bool(info["success"])


def demonstrate(config: ForeignExpertConfig, task_config: Any, seeds: Iterable[int]) -> Iterator[Episode]:
    """Demonstrates one episode a seed, on and on as long as ``seeds`` does; failed ones are left out.

    Args:
        config: has no settings.
        task_config: of a task through the bridge.
        seeds: one an episode; equal seeds give equal episodes.

    Yields:
        The data, as ``demonstrate_episode`` returns it, and what is known of the episode.

    Raises:
        SimulationError: there is no expert, the environment failed, or the expert keeps failing.
    """
    env = load_target(task_config.target)(task_config)
    text = _text(task_config)

    def episode(seed: int) -> Episode:
        data, success = demonstrate_episode(env, seed)
        return data, EpisodeInfo(task=text, success=success, operator="foreign expert")

    advice = f"The task was '{text}'; give more task.max_steps, or another task."
    try:
        yield from successes(episode, seeds, advice)
    finally:
        env.close()


def _text(task_config: Any) -> str:
    """Returns what is to be done as words: ``reach-v3`` -> ``reach``."""
    name = str(getattr(task_config, "name", "") or task_config.id).rpartition("/")[2]
    stem, _, version = name.rpartition("-v")
    return (stem if version.isdigit() else name).replace("-", " ")
