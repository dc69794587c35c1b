"""Policies that predict a chunk at once, always the same: a net over learned queries in place of noise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robopolicy.policies.chunk_nets import make_net
from robopolicy.policies.chunk_policy import ChunkPolicy
from robopolicy.policies.configs import BehaviorCloningConfig, ChunkNetConfig
from robopolicy.sampling.prefix import ChunkPrefix
from robopolicy_datasets.errors import unknown_name
from robopolicy_datasets.spec import Spec

LOSSES = {"mse": F.mse_loss, "l1": F.l1_loss}


class RegressionPolicy(ChunkPolicy):
    """Evaluates the net of the policies that sample once, on learned queries and at the noise level 0.

    Args:
        config: the policy's settings.
        spec: of the data.
        dt: time between control steps, s.
        extra: numbers that a subclass adds to the condition.

    Raises:
        ConfigError: impossible settings.
        SpecError: the data lacks a named feature or has an action that the policy cannot produce.
    """

    config: ChunkNetConfig

    def __init__(self, config: ChunkNetConfig, spec: Spec, dt: float, extra: int = 0) -> None:
        super().__init__(config, spec, dt)
        self.queries = nn.Parameter(torch.randn(config.horizon, self.action.size))
        self.net = make_net(config, self.action.size, self.encoder.size + extra)

    def regress(self, condition: Tensor) -> Tensor:
        """Maps conditions ``[B, C]`` to normalized chunks ``[B, Tp, D]``."""
        queries = self.queries.expand(len(condition), -1, -1)
        return self.net(queries, condition.new_zeros(len(condition)), condition)

    def _predict(self, condition: Tensor, seeds: Sequence[int] | None, prefix: ChunkPrefix | None) -> Tensor:
        return self.regress(condition)


class BehaviorCloningPolicy(RegressionPolicy):
    """Regression onto demonstrated chunks: the mean of what people did (``mse``) or the median (``l1``)."""

    config: BehaviorCloningConfig

    def __init__(self, config: BehaviorCloningConfig, spec: Spec, dt: float) -> None:
        if config.loss not in LOSSES:
            raise unknown_name("policy.loss", config.loss, LOSSES)
        super().__init__(config, spec, dt)

    def _chunk_loss(self, clean: Tensor, condition: Tensor, generator: torch.Generator | None) -> Tensor:
        return LOSSES[self.config.loss](self.regress(condition).float(), clean)
