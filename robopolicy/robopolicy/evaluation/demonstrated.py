"""Demonstrations in a policy's own normalized numbers, for its certificate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robopolicy.policies.chunk_policy import ChunkPolicy
from robopolicy.training.batches import to_tensors
from robopolicy.training.data import TrainingData, observed
from robopolicy_datasets.windows import Edges, KeyWindow, Windows, WindowSampler

MOST_WINDOWS = 4096  # of each sort, drawn at random from larger data
BATCH = 256

Array = NDArray[Any]


@dataclass(frozen=True)
class Samples:
    """Demonstrated windows.

    Attributes:
        conditions: encoded observations ``[N, C]``.
        chunks: normalized ``[N, Tp, D]``.
    """

    conditions: Tensor
    chunks: Tensor


@dataclass(frozen=True)
class Transitions:
    """What one inference led to.

    Attributes:
        states: encoded observations ``[N, C]``.
        actions: executed normalized actions ``[N, Ta * D]``.
        following: observations of the next inference ``[N, C]``.
    """

    states: Array
    actions: Array
    following: Array


def sample_windows(policy: ChunkPolicy, windows: Windows, *, seed: int) -> Samples:
    """Returns windows as the policy is trained on them.

    Args:
        policy: whose numbers are meant.
        windows: of the demonstrations.
        seed: of the choice where there are many.
    """
    parts = []
    for batch in _batches(policy, windows, seed):
        parts.append((_condition(policy, batch["observation"]), _represent(policy, batch, batch["action"])))
    conditions, chunks = zip(*parts, strict=True)
    return Samples(torch.cat(conditions), torch.cat(chunks))


def sample_transitions(policy: ChunkPolicy, data: TrainingData, *, seed: int) -> Transitions:
    """Returns pairs of windows that lie one inference apart, from the first store's training episodes.

    Args:
        policy: whose numbers are meant.
        data: the demonstrations.
        seed: of the choice where there are many.

    Raises:
        StoreError: no episode is that long.
    """
    past, executed = policy.observation_steps, policy.action_steps
    window = KeyWindow(1 - past, past + executed)
    windows = WindowSampler(
        data.stores[0],
        observation=observed(policy, window),
        action=KeyWindow.future(executed),
        episodes=data.training[0],
        edges=Edges.DROP,
    )
    parts = []
    for batch in _batches(policy, windows, seed):
        before = {key: value[:, :past] for key, value in batch["observation"].items()}
        after = {key: value[:, -past:] for key, value in batch["observation"].items()}
        actions = _represent(policy, {"observation": before}, batch["action"]).flatten(1)
        parts.append((_condition(policy, before), actions, _condition(policy, after)))
    return Transitions(*(torch.cat(part).double().cpu().numpy() for part in zip(*parts, strict=True)))


def _batches(policy: ChunkPolicy, windows: Windows, seed: int) -> Iterator[dict[str, Any]]:
    chosen = np.sort(np.random.default_rng(seed).permutation(len(windows))[:MOST_WINDOWS])
    for part in np.array_split(chosen, -(-len(chosen) // BATCH)):
        yield to_tensors(windows.gather(part), str(policy.device))


@torch.no_grad()
def _condition(policy: ChunkPolicy, observation: Mapping[str, Tensor]) -> Tensor:
    return policy.encoder(observation).float()


def _represent(policy: ChunkPolicy, batch: Mapping[str, Any], action: Tensor) -> Tensor:
    represented = policy.action.encode(action.float(), policy.action.base(batch["observation"]))
    return policy.normalizer.normalize("action", represented)
