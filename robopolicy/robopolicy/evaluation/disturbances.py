"""What the names of disturbances mean: each turns a policy and a task into disturbed ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from robopolicy.evaluation.attacks import GreedyMove, RandomMove
from robopolicy.evaluation.configs import (
    DelayConfig,
    GreedyMoveConfig,
    ImageNoiseConfig,
    PushConfig,
    RandomMoveConfig,
)
from robopolicy.evaluation.disturbed_policy import DisturbedPolicy
from robopolicy.policies.chunk_policy import ChunkPolicy as OwnPolicy
from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_drivers.interfaces import ChunkPolicy, noise_seed

Disturbed = tuple[ChunkPolicy, Any]
"""A policy, and the config of a task."""


def random_moves(policy: OwnPolicy, task: Any, size: float, config: RandomMoveConfig) -> Disturbed:
    """Moves what the policy observes in random directions; see ``attacks.RandomMove``."""
    return DisturbedPolicy(policy, RandomMove(policy, size)), task


def greedy_moves(policy: OwnPolicy, task: Any, size: float, config: GreedyMoveConfig) -> Disturbed:
    """Moves what the policy observes against it; see ``attacks.GreedyMove``."""
    if config.steps < 1 or config.starts < 1:
        raise ConfigError(
            f"disturbance.steps is {config.steps} and disturbance.starts {config.starts}; give at least 1 of "
            "each, or disturbance=random."
        )
    return DisturbedPolicy(policy, GreedyMove(policy, size, config.steps, config.starts)), task


def image_noise(policy: OwnPolicy, task: Any, size: float, config: ImageNoiseConfig) -> Disturbed:
    """Adds noise to the images that the policy observes.

    Raises:
        SpecError: it observes none.
    """
    images = [feature.key for feature in policy.spec.observation if feature.is_image]
    if not images:
        raise SpecError("The policy observes no image. Disturb its numbers: disturbance=random.")

    def disturb(observation: Mapping[str, Tensor], seeds: Sequence[int]) -> dict[str, Tensor]:
        generators = [torch.Generator().manual_seed(noise_seed(int(seed), 0)) for seed in seeds]
        noisy = dict(observation)
        for key in images:
            image = observation[key]
            noise = torch.stack([torch.randn(image.shape[1:], generator=one) for one in generators])
            noisy[key] = (image + size * noise.to(image.device)).round().clamp(0, 255).to(image.dtype)
        return noisy

    return DisturbedPolicy(policy, disturb), task


def delay(policy: OwnPolicy, task: Any, size: float, config: DelayConfig) -> Disturbed:
    """Delays the actions by whole control steps.

    Raises:
        ConfigError: the size is not whole, or the task knows no delay.
    """
    if size != int(size):
        raise ConfigError(f"disturbance.sizes has the delay {size:g}; delays are whole control steps.")
    return policy, _with_disturbance(task, delay_steps=int(size))


def push(policy: OwnPolicy, task: Any, size: float, config: PushConfig) -> Disturbed:
    """Pushes the robot.

    Raises:
        ConfigError: the task knows no force.
    """
    return policy, _with_disturbance(task, force=size)


def _with_disturbance(task: Any, **changes: Any) -> Any:
    if not hasattr(task, "disturbance"):
        raise ConfigError(
            f"The task of {type(task).__name__} has no task.disturbance: it can be neither delayed nor "
            "pushed. Use disturbance=random, greedy or image_noise."
        )
    return dataclasses.replace(task, disturbance=dataclasses.replace(task.disturbance, **changes))
