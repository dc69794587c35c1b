"""ACT: action chunking with a transformer (Zhao et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from robopolicy.nets.posterior import ChunkPosterior, divergence
from robopolicy.policies.config_checks import at_least
from robopolicy.policies.configs import ActConfig
from robopolicy.policies.random_numbers import RandomNumbers
from robopolicy.policies.regression import RegressionPolicy
from robopolicy.sampling.prefix import ChunkPrefix
from robopolicy_datasets.spec import Spec


class ActPolicy(RegressionPolicy):
    """Regression that is told, in training only, how the demonstrator did it.

    A conditional variational autoencoder: in training a latent vector that a second net draws from the
    demonstrated chunk itself explains what the observation does not (left or right, fast or slow), so that
    the rest need not average over it. At inference the latent vector is its prior's mean, zero.

    Args:
        config: the policy's settings.
        spec: of the data.
        dt: time between control steps, s.

    Raises:
        ConfigError: impossible settings.
        SpecError: the data lacks a named feature or has an action that the policy cannot produce.
    """

    config: ActConfig

    def __init__(self, config: ActConfig, spec: Spec, dt: float) -> None:
        at_least("latent", config.latent, 1)
        at_least("posterior_layers", config.posterior_layers, 1)
        at_least("divergence_weight", config.divergence_weight, 0)
        super().__init__(config, spec, dt, extra=config.latent)
        self.posterior = ChunkPosterior(
            self.action.size,
            config.horizon,
            self.encoder.size,
            config.latent,
            config.transformer.width,
            config.posterior_layers,
            config.transformer.heads,
        )

    def _chunk_loss(self, clean: Tensor, condition: Tensor, generator: torch.Generator | None) -> Tensor:
        mean, log_variance = self.posterior(clean, condition)
        drawn = RandomNumbers(generator, mean.device).normal(mean.shape)
        latent = mean + (0.5 * log_variance).exp() * drawn
        predicted = self.regress(torch.cat([condition, latent], dim=-1))
        surprise = divergence(mean, log_variance).mean()
        return F.l1_loss(predicted.float(), clean) + self.config.divergence_weight * surprise

    def _predict(self, condition: Tensor, seeds: Sequence[int] | None, prefix: ChunkPrefix | None) -> Tensor:
        return self.regress(F.pad(condition, (0, self.config.latent)))
