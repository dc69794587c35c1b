"""A flow whose sampled chunk follows the observation no further than a bound that is set beforehand.

It begins in one of a few noises, each with a code of its own. Which of them a demonstrated chunk belongs to
is found as in a mixture of equally likely parts, by stochastic expectation maximisation: the estimates of the
first step, one for each code, say how likely each is to have made the chunk; one is drawn, and learns it. A
large common spread in the beginning lets all codes learn the mean; they part as it shrinks. With a teacher, a
flow without a bound, there is nothing to find: a noise belongs to the chunk that the teacher makes of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robopolicy.certify.sensitivity import Sensitivity
from robopolicy.policies.chunk_policy import ChunkPolicy
from robopolicy.policies.config_checks import at_least
from robopolicy.policies.configs import LipschitzFlowConfig
from robopolicy.policies.generative import FlowPolicy
from robopolicy.policies.lipschitz_denoiser import LipschitzDenoiser
from robopolicy.sampling.denoiser import mix
from robopolicy.sampling.flow import FlowSampler
from robopolicy.sampling.prefix import ChunkPrefix
from robopolicy.sampling.sensitivity import euler_bounds, rows_bound
from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.spec import Spec

_RANDOM_CODES = 0.05  # share of the codes drawn regardless, so that none forgets a part of the observations


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
        for name in ("bound", "point_gain"):
            if not getattr(config, name) > 0:
                raise ConfigError(f"policy.{name} is {getattr(config, name)}; it must be above 0.")
        if learned := sorted({name.split(".")[1] for name, _ in self.encoder.named_parameters()}):
            raise ConfigError(
                f"The encoder of {', '.join(learned)} learns and has no Lipschitz bound: there would be no "
                "certificate. Leave it out of policy.observation_keys, or use the policy 'flow'."
            )
        self.sampler = FlowSampler("euler", config.sampling_steps)
        self.denoiser = LipschitzDenoiser(config, self.encoder.size, self.action.size)
        self.log_spread = nn.Parameter(torch.zeros(()))  # of the chunks of one code, about its estimate
        self.register_buffer("noise", torch.randn(config.codes, config.horizon, self.action.size))
        self._teacher: list[FlowPolicy] = []  # in a list: it is no part of this module

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
            method=f"product of the layers' norms, over {len(gains)} Euler steps from the same noise",
        )

    def learn_from(self, teacher: ChunkPolicy) -> None:
        """Learns the chunks that a trained flow samples, not the demonstrated ones, and takes its normalizer.

        Args:
            teacher: sees and commands the same, in the same form.

        Raises:
            ConfigError: it does not, or is no flow.
        """
        if not isinstance(teacher, FlowPolicy):
            raise ConfigError(f"policy.teacher is a {type(teacher).__name__}; give one of the policy 'flow'.")
        settings = ("observation_steps", "horizon", "pose_representation", "normalization")
        differing = [name for name in settings if getattr(teacher.config, name) != getattr(self.config, name)]
        if teacher.spec != self.spec:
            differing.append("observation_keys")
        if differing:
            raise ConfigError(
                "policy.teacher was trained with another "
                + ", ".join(f"policy.{n}" for n in differing)
                + "; "
                "set the same here."
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
        code, clean = self._couple(clean, condition, generator)
        step = _integers(self.config.sampling_steps, len(clean), generator, clean.device)
        scales = self.sampler.path.scales(step / self.config.sampling_steps)
        point = mix(scales, clean, self.noise[code]).flatten(1)
        error = (self.denoiser(point, condition, code, step) - clean.flatten(1)).square().mean(-1)
        # the negative log-likelihood of a normal distribution, per number
        return (error / (2 * (2 * self.log_spread).exp()) + self.log_spread).mean()

    @torch.no_grad()
    def _couple(
        self, clean: Tensor, condition: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Draws codes ``[B]`` and the chunks that belong to them."""
        if not self._teacher:
            return self._posterior(clean, condition, generator), clean
        (teacher,) = self._teacher
        code = _integers(self.config.codes, len(clean), generator, clean.device)
        return code, teacher.sampler.sample(teacher.denoiser(condition), self.noise[code]).float()

    def _posterior(self, clean: Tensor, condition: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draws the codes ``[B]`` that may have made the chunks, from the first step's estimates."""
        batch, codes = len(clean), self.config.codes
        repeated, target = condition.repeat_interleave(codes, 0), clean.flatten(1)[:, None]
        code = torch.arange(codes, device=clean.device).repeat(batch)
        nothing = torch.zeros(len(code), target.shape[-1], device=clean.device)
        estimate = self.denoiser(nothing, repeated, code, torch.zeros_like(code)).unflatten(0, (batch, codes))
        error = (estimate - target).square().sum(-1)
        likely = torch.softmax(-error / (2 * (2 * self.log_spread).exp()), dim=-1)
        weights = (1 - _RANDOM_CODES) * likely + _RANDOM_CODES / codes
        device = clean.device if generator is None else generator.device
        return torch.multinomial(weights.to(device), 1, generator=generator)[:, 0].to(clean.device)

    def _predict(self, condition: Tensor, seeds: Sequence[int] | None, prefix: ChunkPrefix | None) -> Tensor:
        if seeds is None:
            return self.sample(condition, _integers(self.config.codes, len(condition), None, self.device))
        generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        codes = [_integers(self.config.codes, 1, generator, self.device) for generator in generators]
        return self.sample(condition, torch.cat(codes))


def _integers(below: int, count: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Draws ``[count]`` integers from 0 on where their generator lives."""
    source = device if generator is None else generator.device
    return torch.randint(below, (count,), generator=generator, device=source).to(device)
