"""A flow whose sampled chunk follows the observation no further than a bound that is set beforehand.

It begins in one of a few noises, each with a code of its own (``codes``). A net of bounded gain learns slowly
and, from demonstrations, by heart. With a *teacher*, a trained mixture of as many codes without a bound, it
learns what that makes of observations moved at random (distillation): of those there are as many as one
likes, and which code a chunk belongs to is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robopolicy.certify.sensitivity import Sensitivity
from robopolicy.policies.chunk_policy import ChunkPolicy
from robopolicy.policies.codes import draw_codes, negative_log_likelihood, seeded_codes
from robopolicy.policies.config_checks import at_least
from robopolicy.policies.configs import LipschitzFlowConfig
from robopolicy.policies.lipschitz_denoiser import LipschitzDenoiser
from robopolicy.policies.mixture import MixturePolicy
from robopolicy.policies.random_numbers import RandomNumbers
from robopolicy.sampling.denoiser import mix
from robopolicy.sampling.flow import FlowSampler
from robopolicy.sampling.prefix import ChunkPrefix
from robopolicy.sampling.sensitivity import euler_bounds, rows_bound
from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.spec import Spec


class LipschitzFlowPolicy(ChunkPolicy):
    """Flow matching with a hard Lipschitz bound in the observation and a free choice by the noise.

    Args:
        config: the policy's settings.
        spec: of the data.
        dt: time between control steps, s.

    Raises:
        ConfigError: impossible settings, or a feature whose encoder learns, which has no bound.
        SpecError: the data lacks a named feature or has an action that the policy cannot produce.
    """

    config: LipschitzFlowConfig
    stochastic = True
    noise: Tensor

    def __init__(self, config: LipschitzFlowConfig, spec: Spec, dt: float) -> None:
        super().__init__(config, spec, dt)
        for name in ("codes", "sampling_steps", "width", "depth"):
            at_least(name, getattr(config, name), 1)
        at_least("teacher_noise", config.teacher_noise, 0)
        for name in ("bound", "point_gain"):
            if not 0 < getattr(config, name) < math.inf:
                raise ConfigError(f"policy.{name} is {getattr(config, name)}; it must be above 0 and finite.")
        if learned := sorted({name.split(".")[1] for name, _ in self.encoder.named_parameters()}):
            raise ConfigError(
                f"The encoder of {', '.join(learned)} learns and has no Lipschitz bound: there would be no "
                "certificate. Leave it out of policy.observation_keys and policy.streams, or use the policy "
                "'flow'."
            )
        self.sampler = FlowSampler("euler", config.sampling_steps)
        self.denoiser = LipschitzDenoiser(config, self.encoder.size, self.action.size)
        self.log_spread = nn.Parameter(torch.zeros(()))  # of the chunks of one code, about its estimate
        self.register_buffer("noise", torch.randn(config.codes, config.horizon, self.action.size))
        self._teacher: list[MixturePolicy] = []  # in a list: it is no part of this module

    def sensitivity(self) -> Sensitivity:
        """Returns how far the sampled chunk follows the observation, from the weights that are used."""
        gains = self.denoiser.gains()
        chunk, size = euler_bounds(gains)[-1], self.action.size
        numbers = [list(range(index, self.config.horizon * size, size)) for index in range(size)]
        return Sensitivity(
            chunk=chunk,
            per_action=tuple(min(chunk, rows_bound(gains, self.denoiser.gains(rows))) for rows in numbers),
            noise=None,
            kind="certified",
            method=f"Product of the layers' norms, from one noise; number of Euler steps: {len(gains)}.",
        )

    def learn_from(self, teacher: ChunkPolicy) -> None:
        """Learns the chunks of a trained mixture, not the demonstrated ones, and takes its normalizer.

        Args:
            teacher: sees and commands the same, in the same form, and has as many codes.

        Raises:
            ConfigError: it does not, or is no mixture.
        """
        if not isinstance(teacher, MixturePolicy):
            raise ConfigError(
                f"policy.teacher is a {type(teacher).__name__}; give a run of the policy 'mixture'."
            )
        settings = ("observation_steps", "horizon", "pose_representation", "normalization", "codes")
        differing = [name for name in settings if getattr(teacher.config, name) != getattr(self.config, name)]
        if teacher.spec != self.spec:
            differing.append("observation_keys")
        if differing:
            raise ConfigError(
                f"policy.teacher was trained with another {', '.join(f'policy.{n}' for n in differing)}; set "
                "the same here."
            )
        self.normalizer.load_state_dict(teacher.normalizer.state_dict())
        self._teacher = [teacher.to(self.device).eval().requires_grad_(False)]

    def sample(self, condition: Tensor, code: Tensor) -> Tensor:
        """Samples normalized chunks.

        Args:
            condition: encoded observations ``[B, C]``.
            code: indices of the noises ``[B]``.

        Returns:
            ``[B, Tp, action.size]``.
        """

        def estimate(point: Tensor, time: Tensor) -> Tensor:
            step = (time * self.config.sampling_steps).round().long()
            return self.denoiser(point.flatten(1), condition, code, step).view_as(point)

        return self.sampler.sample(estimate, self.noise[code])

    def _chunk_loss(self, clean: Tensor, condition: Tensor, generator: torch.Generator | None) -> Tensor:
        count, codes = len(clean), self.config.codes
        random = RandomNumbers(generator, clean.device)
        if self._teacher:
            if self.training:
                condition = self.encoder.moved(condition, self.config.teacher_noise, generator)
            code = random.integers(codes, count)
            with torch.no_grad():
                clean = self._teacher[0].estimate(condition, code).view_as(clean)
        else:
            code = draw_codes(
                self._first_estimate, codes, clean.flatten(1), condition, self.log_spread, generator
            )
        step = random.integers(self.config.sampling_steps, count)
        scales = self.sampler.path.scales(step / self.config.sampling_steps)
        point = mix(scales, clean, self.noise[code]).flatten(1)
        error = (self.denoiser(point, condition, code, step) - clean.flatten(1)).square().mean(-1)
        return negative_log_likelihood(error, self.log_spread)

    def _first_estimate(self, condition: Tensor, code: Tensor) -> Tensor:
        """Returns the estimates of the first step ``[B, Tp * action.size]``, which see no noise."""
        nothing = torch.zeros(len(code), self.config.horizon * self.action.size, device=code.device)
        return self.denoiser(nothing, condition, code, torch.zeros_like(code))

    def _predict(self, condition: Tensor, seeds: Sequence[int] | None, prefix: ChunkPrefix | None) -> Tensor:
        return self.sample(condition, seeded_codes(self.config.codes, len(condition), seeds, self.device))
