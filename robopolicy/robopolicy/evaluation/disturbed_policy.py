"""A policy that sees disturbed observations, wherever it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robopolicy.evaluation.attacks import represented
from robopolicy.policies.chunk_policy import ChunkPolicy
from robopolicy_datasets.spec import Spec

Array = NDArray[Any]
Disturb = Callable[[Mapping[str, Tensor], Sequence[int]], Mapping[str, Tensor]]
"""Maps windows ``{key: [B, To, *shape]}`` and one seed a row to what is seen in their place."""


@dataclass(frozen=True)
class Change:
    """What a disturbance did to one chunk, in Euclidean norms of normalized numbers.

    Attributes:
        window: how far the window was moved, as the net sees it (of images: the encoder's features).
        chunk: how far the chunk moved, each in the frame that was observed: what a certificate bounds.
        executed: how far the executed actions moved, in the true frame.
    """

    window: float
    chunk: float
    executed: float


class DisturbedPolicy:
    """A ``ChunkPolicy`` that disturbs what it is given before the policy in it sees it.

    Args:
        policy: that sees the disturbed observations.
        disturb: makes them.

    Attributes:
        changes: of all chunks so far.
    """

    def __init__(self, policy: ChunkPolicy, disturb: Disturb) -> None:
        self.policy = policy
        self.changes: list[Change] = []
        self._disturb = disturb

    @property
    def spec(self) -> Spec:
        """The features that the policy reads and writes."""
        return self.policy.spec

    @property
    def observation_steps(self) -> int:
        """Length To of the observation history."""
        return self.policy.observation_steps

    @property
    def action_steps(self) -> int:
        """Rows of a chunk to execute before the next inference."""
        return self.policy.action_steps

    @property
    def dt(self) -> float:
        """Time of one control step [s]."""
        return self.policy.dt

    def reset(self) -> None:
        """Forgets everything about the running episode."""
        self.policy.reset()

    def infer(self, observation: Mapping[str, Array], *, seeds: Sequence[int] | None = None) -> Array:
        """Returns the chunks ``[N, T, A]`` for disturbed observations; see ``ChunkPolicy.infer``.

        The disturbance of a row depends on its seed alone, or is fresh without seeds.
        """
        self.policy.eval()
        true = {
            feature.key: torch.from_numpy(np.array(observation[feature.key])).to(self.policy.device)
            for feature in self.policy.spec.observation
        }
        if seeds is None:
            count = len(next(iter(true.values())))
            seeds = np.random.default_rng().integers(2**62, size=count).tolist()
        seen = self._disturb(true, seeds)
        self.changes += self._measure(true, seen, seeds)
        return self.policy.infer({key: value.cpu().numpy() for key, value in seen.items()}, seeds=seeds)

    @torch.no_grad()
    def _measure(
        self, true: Mapping[str, Tensor], seen: Mapping[str, Tensor], seeds: Sequence[int]
    ) -> list[Change]:
        policy, now = self.policy, self.policy.observation_steps - 1
        with policy.precision():
            windows = [policy.encoder(observation) for observation in (true, seen)]
            chunks = [policy.respond(window, seeds) for window in windows]
        executed = [
            represented(policy, policy.actions(chunk, observation), true)[:, now : now + policy.action_steps]
            for chunk, observation in zip(chunks, (true, seen), strict=True)
        ]
        differences = (calm - disturbed for calm, disturbed in (windows, chunks, executed))
        norms = (difference.flatten(1).norm(dim=1).tolist() for difference in differences)
        return [Change(*row) for row in zip(*norms, strict=True)]
