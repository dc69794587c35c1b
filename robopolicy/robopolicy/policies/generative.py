"""Chunk policies that sample: flow matching and diffusion share encoder, nets and normalizer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robopolicy.nets.mlp import ConditionalMlp
from robopolicy.nets.unet import ConditionalUnet
from robopolicy.policies.chunk_policy import ChunkPolicy
from robopolicy.policies.config_checks import check_nets
from robopolicy.policies.configs import DiffusionConfig, FlowConfig, GenerativeConfig
from robopolicy.sampling.diffusion import DiffusionSampler, Draw, Field
from robopolicy.sampling.flow import FlowSampler, shrink
from robopolicy.sampling.prefix import ChunkPrefix, continue_diffusion, continue_flow
from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.spec import Spec


def _unet(config: GenerativeConfig, action_size: int, condition_size: int, step_scale: float) -> nn.Module:
    unet = config.unet
    factor = 2 ** (len(unet.channels) - 1)
    if config.horizon % factor:
        raise ConfigError(
            f"policy.horizon is {config.horizon}; this U-Net halves it, so it must be divisible by {factor}."
        )
    return ConditionalUnet(
        action_size, condition_size, unet.channels, unet.kernel_size, unet.groups, unet.embedding, step_scale
    )


def _mlp(config: GenerativeConfig, action_size: int, condition_size: int, step_scale: float) -> nn.Module:
    mlp = config.mlp
    return ConditionalMlp(
        action_size,
        config.horizon,
        condition_size,
        mlp.width,
        mlp.blocks,
        mlp.expansion,
        mlp.embedding,
        step_scale,
    )


NETS = {"unet": _unet, "mlp": _mlp}
"""How the net that a config names is built."""


class GenerativePolicy(ChunkPolicy):
    """Samples chunks through a field that a net represents.

    Args:
        config: the policy's settings.
        spec: of the data.
        dt: time between control steps, s.

    Raises:
        ConfigError: impossible settings.
        SpecError: the data lacks a named feature or has an action that the policy cannot produce.
    """

    config: GenerativeConfig
    stochastic = True
    step_scale = 1.0
    levels: Sequence[float] = ()  # of noise that sampling visits, where known: nets prepare for them

    def __init__(self, config: GenerativeConfig, spec: Spec, dt: float) -> None:
        super().__init__(config, spec, dt)
        check_nets(config, NETS)
        self.net = NETS[config.net](config, self.action.size, self.encoder.size, self.step_scale)

    def sample(
        self,
        condition: Tensor,
        noise: Tensor,
        draw: Draw | None = None,
        prefix: ChunkPrefix | None = None,
    ) -> Tensor:
        """Samples normalized chunks.

        Args:
            condition: encoded observations ``[B, C]``.
            noise: standard normal ``[B, Tp, action.size]``.
            draw: makes more of it, for samplers that add noise on the way; torch's global generator by
                default.
            prefix: what the chunks should continue, as of ``represent_prefix``.

        Returns:
            ``[B, Tp, action.size]``.
        """
        field = self._bind(condition)
        if prefix is not None:
            field = self._continue(field, prefix)
        return self._integrate(field, noise, draw)

    def _chunk_loss(self, clean: Tensor, condition: Tensor, generator: torch.Generator | None) -> Tensor:
        repeats = self.config.noise_samples
        if repeats > 1:
            clean, condition = clean.repeat(repeats, 1, 1), condition.repeat(repeats, 1)
        noise = torch.randn(clean.shape, generator=generator, device=_device(generator, clean)).to(
            clean.device
        )
        return self._field_loss(clean, noise, condition, generator)

    def _predict(self, condition: Tensor, seeds: Sequence[int] | None, prefix: ChunkPrefix | None) -> Tensor:
        draw = self._draw(len(condition), seeds)
        return self.sample(condition, draw(), draw, prefix)

    def _draw(self, count: int, seeds: Sequence[int] | None) -> Draw:
        """Returns what draws ``[count, Tp, action.size]``, on the CPU so that devices see the same noise."""
        shape = (self.config.horizon, self.action.size)
        if seeds is None:
            return lambda: torch.randn(count, *shape).to(self.device)
        generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        return lambda: torch.stack([torch.randn(shape, generator=g) for g in generators]).to(self.device)

    def _bind(self, condition: Tensor) -> Field:
        """Returns the net with its condition ``[B, C]`` bound, as the sampler calls it."""
        field: Field = self.net.bind(condition, self.levels)  # type: ignore[operator]
        return field

    def _continue(self, field: Field, prefix: ChunkPrefix) -> Field:
        """Returns the field that continues a prefix, for policies that can."""
        raise ConfigError(f"{type(self).__name__} takes no prefix; sample without one.")

    @abstractmethod
    def _field_loss(
        self, clean: Tensor, noise: Tensor, condition: Tensor, generator: torch.Generator | None
    ) -> Tensor: ...

    @abstractmethod
    def _integrate(self, field: Field, noise: Tensor, draw: Draw | None) -> Tensor: ...


class FlowPolicy(GenerativePolicy):
    """Flow matching: the net predicts the clean chunk, which gives the velocity ``(clean - x) / (1 - t)``.

    A net that predicts the velocity itself has to pass the noise through unharmed; small nets cannot.
    """

    config: FlowConfig
    sampler: FlowSampler
    step_scale = 1000.0
    takes_prefix = True

    def __init__(self, config: FlowConfig, spec: Spec, dt: float) -> None:
        super().__init__(config, spec, dt)
        self.sampler = FlowSampler(config.sampler, config.sampling_steps)
        self.levels = self.sampler.levels

    def _field_loss(
        self, clean: Tensor, noise: Tensor, condition: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        time = torch.rand(len(clean), generator=generator, device=_device(generator, clean)).to(clean.device)
        noisy = self.sampler.corrupt(clean, noise, time)
        predicted = self.net(shrink(noisy, time), time, condition)
        return F.mse_loss(predicted.float(), clean)

    def _bind(self, condition: Tensor) -> Field:
        field = super()._bind(condition)
        return lambda x, time: field(shrink(x, time), time)

    def _continue(self, field: Field, prefix: ChunkPrefix) -> Field:
        return continue_flow(field, prefix)

    def _integrate(self, field: Field, noise: Tensor, draw: Draw | None) -> Tensor:
        return self.sampler.sample(field, noise)


class DiffusionPolicy(GenerativePolicy):
    """Denoising diffusion: the net predicts the noise."""

    config: DiffusionConfig
    sampler: DiffusionSampler
    takes_prefix = True

    def __init__(self, config: DiffusionConfig, spec: Spec, dt: float) -> None:
        super().__init__(config, spec, dt)
        if config.normalization != "limits":
            raise ConfigError(
                f"policy.normalization is '{config.normalization}', but diffusion clips what it samples to "
                "[-1, 1]. Use policy.normalization=limits, or the policy 'flow'."
            )
        self.sampler = DiffusionSampler(config.sampler, config.noise_levels, config.sampling_steps)
        self.levels = self.sampler.levels

    def _field_loss(
        self, clean: Tensor, noise: Tensor, condition: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        level = torch.randint(
            0,
            self.config.noise_levels,
            clean.shape[:1],
            generator=generator,
            device=_device(generator, clean),
        ).to(clean.device)
        predicted = self.net(self.sampler.corrupt(clean, noise, level), level, condition)
        return F.mse_loss(predicted.float(), noise)

    def _continue(self, field: Field, prefix: ChunkPrefix) -> Field:
        return continue_diffusion(field, prefix, self.sampler.alphas)

    def _integrate(self, field: Field, noise: Tensor, draw: Draw | None) -> Tensor:
        return self.sampler.sample(field, noise, draw)


def _device(generator: torch.Generator | None, like: Tensor) -> torch.device:
    """Random numbers are drawn where their generator lives."""
    return like.device if generator is None else generator.device
