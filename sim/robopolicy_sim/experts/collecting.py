"""Demonstrations by scripted experts, one a seed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError, SimulationError
from robopolicy_datasets.registry import load_target
from robopolicy_datasets.store import EpisodeInfo
from robopolicy_sim.experts.configs import ScriptedConfig
from robopolicy_sim.experts.expert import Expert
from robopolicy_sim.successes import Episode, successes
from robopolicy_sim.tasks.manipulation import ManipulationEnv

_log = logging.getLogger(__name__)


def collect_episode(
    env: ManipulationEnv, expert_class: type[Expert], config: ScriptedConfig, random: np.random.Generator
) -> tuple[dict[str, NDArray[Any]], EpisodeInfo]:
    """Demonstrates one episode.

    Args:
        env: is reset with a seed from ``random``.
        expert_class: who demonstrates.
        config: of the expert.
        random: decides everything that varies.

    Returns:
        The data, ``[T, ...]`` for every key of the environment's Spec, and what is known of the episode.
    """
    observation, _ = env.reset(seed=int(random.integers(2**31)))
    expert = expert_class(env.world, config, random)
    rows: dict[str, list[NDArray[Any]]] = {key: [] for key in env.data_spec.keys()}  # noqa: SIM118 (Spec is no dict)
    over, success = False, False
    while not over:
        action = expert.act()
        for key, value in observation.items():
            rows[key].append(value)
        rows["action"].append(action.astype(np.float32))
        observation, _, terminated, truncated, info = env.step(expert.disturbed(action))
        success = info["success"]
        over = terminated or truncated
    data = {key: np.stack(values) for key, values in rows.items()}
    embodiment = env.world.robot.embodiment.name
    text = env.world.scene.task_text
    return data, EpisodeInfo(task=text, success=success, operator="scripted", embodiment=embodiment)


def collect(config: ScriptedConfig, task_config: Any, seeds: Iterable[int]) -> Iterator[Episode]:
    """Demonstrates one episode a seed, on and on as long as ``seeds`` does; failed ones are left out.

    Args:
        config: of the expert.
        task_config: of the task; its ``expert`` names the expert.
        seeds: one an episode; equal seeds give equal episodes.

    Yields:
        What ``collect_episode`` returns, and all samples of the streams of an environment that has some.

    Raises:
        ConfigError: a setting is out of range.
        SimulationError: the expert keeps failing.
    """
    if config.disturbance < 0 or not 0 <= config.recovery_rate <= 1:
        raise ConfigError(
            f"The scripted expert got disturbance={config.disturbance} and "
            f"recovery_rate={config.recovery_rate}; "
            "give a disturbance of at least 0 and a recovery_rate from 0 to 1."
        )
    env: ManipulationEnv = load_target(task_config.target)(task_config)
    expert_class = load_target(task_config.expert)
    if env.streams:
        env.listen([stream.key for stream in env.streams])

    def demonstrate(seed: int) -> Episode | None:
        try:
            data, info = collect_episode(env, expert_class, config, np.random.default_rng(seed))
            return (data, info, env.heard()) if env.streams else (data, info)
        except SimulationError as error:
            _log.warning("The demonstration with seed %d ended: %s", seed, error)
            return None

    advice = (
        f"They had task.max_steps={task_config.max_steps} and teleop.disturbance={config.disturbance}; give "
        "more steps, or a disturbance of about 1."
    )
    yield from successes(demonstrate, seeds, advice)
