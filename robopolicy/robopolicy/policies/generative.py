"""Chunk policies that sample: flow matching and diffusion share encoder, U-Net and normalizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from robopolicy.nets.mlp import ConditionalMlp
from robopolicy.nets.unet import ConditionalUnet
from robopolicy.policies.config_checks import check_config
from robopolicy.policies.configs import ChunkPolicyConfig, DiffusionConfig, FlowConfig
from robopolicy.policies.normalizer import Normalizer
from robopolicy.policies.observation_encoder import ObservationEncoder
from robopolicy.policies.representation import (
    ActionRepresentation,
    is_rotational,
    observation_size,
    represent_observation,
)
from robopolicy.sampling.diffusion import DiffusionSampler, Draw, Field
from robopolicy.sampling.flow import FlowSampler, shrink
from robopolicy.sampling.prefix import ChunkPrefix, continue_diffusion, continue_flow, soft_mask
from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_datasets.spec import Spec
from robopolicy_drivers.interfaces import Prefix

Array = NDArray[Any]


def _unet(config: ChunkPolicyConfig, action_size: int, condition_size: int, step_scale: float) -> nn.Module:
    unet = config.unet
    factor = 2 ** (len(unet.channels) - 1)
    if config.horizon % factor:
        raise ConfigError(
            f"policy.horizon is {config.horizon}; this U-Net halves it, so it must be divisible by {factor}."
        )
    return ConditionalUnet(
        action_size, condition_size, unet.channels, unet.kernel_size, unet.groups, unet.embedding, step_scale
    )


def _mlp(config: ChunkPolicyConfig, action_size: int, condition_size: int, step_scale: float) -> nn.Module:
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


class ChunkPolicy(nn.Module, ABC):
    """Maps a window of observations to a chunk of actions through a generative field.

    Args:
        config: the policy's settings.
        spec: of the data; the policy keeps the observation features that its config names.
        dt: time between control steps, s.

    Raises:
        ConfigError: impossible settings.
        SpecError: the data lacks a named feature or has an action that the policy cannot produce.
    """

    step_scale = 1.0
    bf16 = False  # whether nets sample in bfloat16; poses never do
    takes_prefix = False  # whether chunks can continue what the robot is about to play
    levels: Sequence[float] = ()  # of noise that sampling visits, where known: nets prepare for them

    def __init__(self, config: ChunkPolicyConfig, spec: Spec, dt: float) -> None:
        super().__init__()
        check_config(config, NETS)
        self.config = config
        self.dt = dt
        self.spec = spec.select(config.observation_keys) if config.observation_keys else spec
        self.action = ActionRepresentation(self.spec, config.pose_representation)
        sizes = {f.key: observation_size(f) for f in self.spec.observation if not f.is_image}
        self.normalizer = Normalizer({**sizes, "action": self.action.size})
        self.encoder = ObservationEncoder(
            self.spec, config.observation_steps, config.encoder, self.normalizer, config.observation_noise
        )
        self.net = NETS[config.net](config, self.action.size, self.encoder.size, self.step_scale)

    @property
    def observation_steps(self) -> int:
        """Observations in the input window (To)."""
        return self.config.observation_steps

    @property
    def action_steps(self) -> int:
        """Actions to execute before the next inference (Ta)."""
        return self.config.action_steps

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def fit_normalizer(self, observation: Mapping[str, Array], windows: Mapping[str, Any]) -> None:
        """Fits the normalizer on training data.

        Args:
            observation: all training values of each low-dimensional feature, ``{key: [N, *shape]}``.
            windows: training windows ``{"observation": {key: [N, To, *shape]}, "action": [N, Tp, A]}``.
        """
        mode = self.config.normalization
        for feature in self.spec.observation:
            if not feature.is_image:
                values = represent_observation(feature, torch.tensor(observation[feature.key]).float())
                keep = torch.full((values.shape[-1],), is_rotational(feature))
                self.normalizer.fit(feature.key, values, mode, keep)
        observed = {key: torch.tensor(value).float() for key, value in windows["observation"].items()}
        action = torch.tensor(windows["action"]).float()
        represented = self.action.encode(action, self.action.base(observed))
        self.normalizer.fit("action", represented.flatten(0, 1), mode, self.action.rotational())

    def loss(self, batch: Mapping[str, Any], generator: torch.Generator | None = None) -> Tensor:
        """Returns the training loss of a batch of windows.

        Args:
            batch: ``{"observation": {key: [B, To, *shape]}, "action": [B, Tp, A]}``.
            generator: of all randomness (noise, noise levels).
        """
        observation = batch["observation"]
        condition = self.encoder(observation, generator)
        clean = self.normalizer.normalize(
            "action", self.action.encode(batch["action"].float(), self.action.base(observation))
        )
        repeats = self.config.noise_samples
        if repeats > 1:
            clean, condition = clean.repeat(repeats, 1, 1), condition.repeat(repeats, 1)
        noise = torch.randn(clean.shape, generator=generator, device=_device(generator, clean)).to(
            clean.device
        )
        return self._field_loss(clean, noise, condition, generator)

    def forward(self, batch: Mapping[str, Any], generator: torch.Generator | None = None) -> Tensor:
        """Same as ``loss``; the name that distributed training wraps."""
        return self.loss(batch, generator)

    def sample(
        self,
        observation: Mapping[str, Tensor],
        noise: Tensor,
        draw: Draw | None = None,
        prefix: ChunkPrefix | None = None,
    ) -> Tensor:
        """Samples action chunks.

        Args:
            observation: ``{key: [B, To, *shape]}``.
            noise: standard normal ``[B, Tp, action.size]``.
            draw: makes more of it, for samplers that add noise on the way; torch's global generator by
                default.
            prefix: what the chunks should continue, as of ``represent_prefix``.

        Returns:
            actions in real units ``[B, Tp, A]``, row ``To - 1`` belonging to the newest observation.
        """
        with torch.autocast(noise.device.type, torch.bfloat16) if self.bf16 else nullcontext():
            condition = self.encoder(observation)
            field = self._bind(condition)
            if prefix is not None:
                field = self._continue(field, prefix)
            sampled = self._integrate(field, noise, draw)
        represented = self.normalizer.unnormalize("action", sampled.float())
        return self.action.decode(represented, self.action.base(observation))

    def infer(
        self,
        observation: Mapping[str, Array],
        *,
        seeds: Sequence[int] | None = None,
        prefix: Prefix | None = None,
    ) -> Array:
        """Samples chunks for numpy observations; row 0 is the action at the newest observation's step.

        Args:
            observation: ``{key: [N, To, *shape]}``.
            seeds: one per row: each row's noise depends on its seed alone, not on the batch around it.
            prefix: what the chunks should continue (real-time chunking).

        Returns:
            actions in real units ``[N, Tp - To + 1, A]``.

        Raises:
            SpecError: a feature is missing or has the wrong shape or, for an image, dtype; or the prefix has.
            ConfigError: there is not one seed per row, or the policy takes no prefix.
        """
        self.eval()
        # the guidance of a prefix needs a gradient, which what inference mode makes cannot have
        with torch.inference_mode() if prefix is None else torch.no_grad():
            tensors = self._tensors(observation)
            draw = self._noise(len(next(iter(tensors.values()))), seeds)
            wanted = None if prefix is None else self.represent_prefix(prefix, tensors)
            chunk = self.sample(tensors, draw(), draw, wanted)
            return chunk[:, self.observation_steps - 1 :].cpu().numpy()

    def represent_prefix(self, prefix: Prefix, observation: Mapping[str, Tensor]) -> ChunkPrefix:
        """Returns a prefix in the sampler's numbers, its poses relative to the newest observed ones.

        Args:
            prefix: in real units.
            observation: ``{key: [B, To, *shape]}``.

        Raises:
            SpecError: the prefix's actions are not ``[n, A]``, or not finite.
        """
        past = self.observation_steps - 1  # rows of a chunk that lie before the newest observation
        actions = torch.tensor(np.asarray(prefix.actions)[: self.config.horizon - past]).float()
        if actions.dim() != 2 or actions.shape[1] != self.action.feature.size or not actions.isfinite().all():
            raise SpecError(
                f"A prefix of shape {list(actions.shape)} was given; needed are finite actions "
                f"[n, {self.action.feature.size}]."
            )
        batch = len(next(iter(observation.values())))
        rows = actions.to(self.device).expand(batch, -1, -1)
        represented = self.action.encode(rows, self.action.base(observation))
        padding = (0, 0, past, self.config.horizon - past - len(actions))
        target = F.pad(self.normalizer.normalize("action", represented), padding)
        mask = soft_mask(prefix.frozen, len(actions), self.config.horizon - past)
        return ChunkPrefix(target, F.pad(mask, (past, 0)).to(self.device))

    def reset(self) -> None:
        """Forgets the past; these policies keep none."""

    def _noise(self, count: int, seeds: Sequence[int] | None) -> Draw:
        """Returns what draws ``[count, Tp, action.size]``, on the CPU so that devices see the same noise."""
        shape = (self.config.horizon, self.action.size)
        if seeds is None:
            return lambda: torch.randn(count, *shape).to(self.device)
        if len(seeds) != count:
            raise ConfigError(
                f"infer was given {len(seeds)} seeds for {count} observations; give one for each."
            )
        generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        return lambda: torch.stack([torch.randn(shape, generator=g) for g in generators]).to(self.device)

    def _tensors(self, observation: Mapping[str, Array]) -> dict[str, Tensor]:
        tensors = {}
        for feature in self.spec.observation:
            if feature.key not in observation:
                raise SpecError(
                    f"The observation lacks '{feature.key}'. It has: {', '.join(sorted(observation))}."
                )
            value = np.array(observation[feature.key])  # a copy: what is given may be read-only
            if value.shape[1:] != (self.observation_steps, *feature.shape):
                raise SpecError(
                    f"The observation '{feature.key}' has the shape {value.shape}; "
                    f"needed: [N, {self.observation_steps}, {', '.join(map(str, feature.shape))}]."
                )
            if feature.is_image and value.dtype != feature.dtype:
                raise SpecError(
                    f"The observation '{feature.key}' is {value.dtype}; needed is {feature.dtype}, 0 to 255."
                )
            tensors[feature.key] = self._on_device(torch.from_numpy(value))
        rows = {key: len(value) for key, value in tensors.items()}
        if len(set(rows.values())) > 1:
            listed = ", ".join(f"{key} {count}" for key, count in rows.items())
            raise SpecError(f"Every observation needs the same number of rows; given: {listed}.")
        return tensors

    def _on_device(self, value: Tensor) -> Tensor:
        """Copies to the device; to a GPU from pinned memory, so that one copy runs while the next is made."""
        if self.device.type == "cuda":
            return value.pin_memory().to(self.device, non_blocking=True)
        return value.to(self.device)

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


class FlowPolicy(ChunkPolicy):
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


class DiffusionPolicy(ChunkPolicy):
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
