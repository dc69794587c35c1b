"""A scripted chunk policy for Push-T, for tests of roll-outs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robopolicy_datasets.spec import Spec
from robopolicy_sim.tasks.pusht import make_spec


class PushPolicy:
    """Pushes the block towards the goal from behind, with noise from the seeds it is given."""

    observation_steps = 2
    action_steps = 8
    dt = 0.1

    def __init__(self, spec: Spec | None = None, horizon: int = 16) -> None:
        self.spec = spec or make_spec()
        self.horizon = horizon
        self.calls: list[dict[str, np.ndarray]] = []
        self.seeds: list[list[int]] = []

    def reset(self) -> None:
        self.calls, self.seeds = [], []

    def infer(
        self, observation: Mapping[str, np.ndarray], *, seeds: Sequence[int] | None = None
    ) -> np.ndarray:
        assert seeds is not None
        self.calls.append(dict(observation))
        self.seeds.append(list(seeds))
        return np.stack(
            [self._chunk(block, seed) for block, seed in zip(observation["block_pos"], seeds, strict=True)]
        )

    def _chunk(self, block: np.ndarray, seed: int) -> np.ndarray:
        away = block[-1] - 256.0
        behind = block[-1] + 90 * away / max(np.linalg.norm(away), 1.0)
        path = behind + np.linspace(0, 1, self.horizon)[:, None] * (256.0 - behind)
        return path + np.random.default_rng(seed).normal(0, 10, (self.horizon, 2))


def numbers(results: Sequence[Any]) -> list[tuple[Any, ...]]:
    return [(each.seed, each.success, each.score, each.steps, each.error) for each in results]
