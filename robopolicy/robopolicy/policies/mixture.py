"""A policy that samples in one step: a regression for each of a few codes, one of which is drawn.

Where one thing is to be done, all codes learn it; where there are two, they share them. A sample costs one
evaluation of a small net. It has no density: what it draws from has as many chunks as there are codes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robopolicy.nets.chunk_convolution import ChunkConvolution
from robopolicy.policies.chunk_policy import ChunkPolicy
from robopolicy.policies.codes import draw_codes, negative_log_likelihood, seeded_codes
from robopolicy.policies.config_checks import at_least
from robopolicy.policies.configs import MixtureConfig
from robopolicy.sampling.prefix import ChunkPrefix
from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.spec import Spec

_CODE_SIZE = 64
_FIRST_CODES = 0.1  # spread of untrained codes: all begin at the mean, and part as it is learnt


class MixturePolicy(ChunkPolicy):
    """See the module text.

    Args:
        config: the policy's settings.
        spec: of the data.
        dt: time between control steps, s.

    Raises:
        ConfigError: impossible settings.
        SpecError: the data lacks a named feature or has an action that the policy cannot produce.
    """

    config: MixtureConfig
    stochastic = True

    def __init__(self, config: MixtureConfig, spec: Spec, dt: float) -> None:
        super().__init__(config, spec, dt)
        for name in ("codes", "channels", "blocks"):
            at_least(name, getattr(config, name), 1)
        if config.channels % 8:
            raise ConfigError(f"policy.channels is {config.channels}; it must be divisible by 8.")
        self.net = ChunkConvolution(
            self.encoder.size + _CODE_SIZE, config.horizon, self.action.size, config.channels, config.blocks
        )
        self.codes = nn.Parameter(_FIRST_CODES * torch.randn(config.codes, _CODE_SIZE))
        self.log_spread = nn.Parameter(torch.zeros(()))  # of the chunks of one code, about its estimate

    def estimate(self, condition: Tensor, code: Tensor) -> Tensor:
        """Maps conditions ``[B, C]`` and codes ``[B]`` to flat normalized chunks ``[B, Tp * D]``."""
        return self.net(torch.cat([condition, self.codes[code]], dim=-1))

    def _chunk_loss(self, clean: Tensor, condition: Tensor, generator: torch.Generator | None) -> Tensor:
        chunk = clean.flatten(1)
        code = draw_codes(self.estimate, self.config.codes, chunk, condition, self.log_spread, generator)
        error = (self.estimate(condition, code) - chunk).square().mean(-1)
        return negative_log_likelihood(error, self.log_spread)

    def _predict(self, condition: Tensor, seeds: Sequence[int] | None, prefix: ChunkPrefix | None) -> Tensor:
        code = seeded_codes(self.config.codes, len(condition), seeds, self.device)
        return self.estimate(condition, code).unflatten(-1, (self.config.horizon, -1))
