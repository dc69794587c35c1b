"""Chunk policies that sample: flow matching and diffusion share encoder, nets, normalizer and hooks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from robopolicy.policies.chunk_nets import make_net
from robopolicy.policies.chunk_policy import ChunkPolicy
from robopolicy.policies.config_checks import check_hooks
from robopolicy.policies.configs import DiffusionConfig, FlowConfig, GenerativeConfig
from robopolicy.policies.random_numbers import RandomNumbers
from robopolicy.sampling.denoiser import PREDICTIONS, Denoiser, Draw, InformedDenoiser, NoisePath, mix
from robopolicy.sampling.diffusion import DiffusionSampler
from robopolicy.sampling.feedback import SIGNALS, Feedback, Operator, Signal, bend
from robopolicy.sampling.flow import FlowSampler, shrink
from robopolicy.sampling.guidance import Cost, Guidance, guide
from robopolicy.sampling.prefix import ChunkPrefix, keep_prefix, pull_to_prefix
from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.spec import Spec

_FARTHEST = {"limits": 1.0, "standard": 6.0}  # that a normalized number of an action is from 0


class Sampler(Protocol):
    """Turns noise into chunks by asking a denoiser."""

    @property
    def path(self) -> NoisePath:
        """How noise and data mix at its levels."""

    @property
    def levels(self) -> Sequence[float]:
        """Those that it visits: nets prepare for them."""

    @property
    def evaluations(self) -> int:
        """How often a sample asks the denoiser."""

    def before(self, level: Tensor) -> Tensor:
        """Returns the levels ``[B]`` of the step before those at ``level [B]``, the noisiest at most."""

    def sample(self, denoiser: Denoiser, noise: Tensor, draw: Draw | None = None) -> Tensor:
        """Returns chunks made of ``noise [B, T, D]``; ``draw`` makes what is added on the way."""


class GenerativePolicy(ChunkPolicy):
    """Samples chunks by denoising; a net, given the noise level and the condition, predicts what tells them.

    Args:
        config: the policy's settings.
        spec: of the data.
        dt: time between control steps, s.

    Raises:
        ConfigError: impossible settings.
        SpecError: the data lacks a named feature or has an action that the policy cannot produce.
    """

    config: GenerativeConfig
    sampler: Sampler
    stochastic = True
    takes_prefix = True
    step_scale = 1.0  # multiplies the noise level before its embedding

    def __init__(self, config: GenerativeConfig, spec: Spec, dt: float) -> None:
        super().__init__(config, spec, dt)
        check_hooks(config)
        self.prediction = PREDICTIONS[config.prediction]
        side_size = int(config.longest_prefix > 0) + self._has_feedback * self.action.size
        self.net = make_net(config, self.action.size, self.encoder.size, self.step_scale, side_size)

    def loss(
        self,
        batch: Mapping[str, Any],
        generator: torch.Generator | None = None,
        operator: Operator | None = None,
    ) -> Tensor:
        """Returns the training loss of a batch of windows.

        Args:
            batch: ``{"observation": {key: [B, To, *shape]}, "action": [B, Tp, A]}``.
            generator: of all randomness (noise, noise levels).
            operator: what becomes of the actions of this batch when they are executed, for policies that
                are trained with feedback: ``[B, Tp - To + 1, A]`` to the same, in real units. The actions
                of the batch should be ones that it leaves alone.

        Raises:
            ConfigError: the policy is to be trained with feedback, and there is no operator.
        """
        if self._has_feedback and operator is None:
            raise ConfigError(
                f"policy.feedback.order is '{self.config.feedback.order}', so the loss needs the operator "
                "whose result is fed back: loss(batch, generator, operator). Without one, use order=none."
            )
        observation = batch["observation"]
        signal = None if operator is None else self._signal(operator, observation)
        condition = self.encoder(observation, generator)
        clean = self.normalizer.normalize(
            "action", self.action.encode(batch["action"].float(), self.action.base(observation))
        )
        return self._chunk_loss(clean, condition, generator, signal)

    def sample(
        self,
        observation: Mapping[str, Tensor],
        noise: Tensor,
        draw: Draw | None = None,
        *,
        prefix: ChunkPrefix | None = None,
        guidance: Guidance | None = None,
        feedback: Feedback | None = None,
    ) -> Tensor:
        """Samples action chunks; with hooks, outside of inference mode.

        Args:
            observation: ``{key: [B, To, *shape]}``.
            noise: standard normal ``[B, Tp, action.size]``.
            draw: makes more of it, for samplers that add noise on the way; torch's global generator by
                default.
            prefix: what the chunks should continue, as of ``represent_prefix``.
            guidance: a cost that they should keep low.
            feedback: how they will be executed, for policies trained with feedback.

        Returns:
            actions in real units ``[B, Tp, A]``, row ``To - 1`` belonging to the newest observation.

        Raises:
            ConfigError: feedback for a policy that was trained without.
        """
        with self.precision():
            informed = self._continuing(self.denoiser(self.encoder(observation)), prefix)
            denoiser: Denoiser = informed
            if feedback is not None:
                signal = self._signal(feedback.operator, observation)
                denoiser = bend(informed, signal, feedback.probes(self.sampler.evaluations))
            if guidance is not None:
                normalized = replace(guidance, cost=self._cost(guidance.cost, observation))
                denoiser = guide(denoiser, self.sampler.path, normalized)
            sampled = self.sampler.sample(denoiser, noise, draw)
        return self.actions(sampled, observation)

    def denoiser(self, condition: Tensor) -> InformedDenoiser:
        """Returns the net as a denoiser for encoded observations ``[B, C]``."""
        dtype = next(self.net.parameters()).dtype
        bound = self.net.bind(condition.to(dtype), self.sampler.levels)  # type: ignore[operator]

        def net(noisy: Tensor, level: Tensor) -> Tensor:
            return bound(noisy.to(dtype), level).to(noisy.dtype)

        return partial(self._denoise, net)

    def round_net(self) -> None:
        """Rounds the net's weights to bfloat16, for sampling only.

        On a CPU that computes with them (AVX512-BF16, AMX) a large net then takes half the time, most of
        which goes into reading its weights. Buffers stay as they are.
        """
        for weights in self.net.parameters():
            weights.data = weights.data.bfloat16()

    def sample_in_bfloat16(self) -> None:
        """Evaluates nets in bfloat16 from now on, for sampling only; rounded once, not at each evaluation."""
        super().sample_in_bfloat16()
        self.round_net()

    def _predict(self, condition: Tensor, seeds: Sequence[int] | None, prefix: ChunkPrefix | None) -> Tensor:
        draw = self._draw(len(condition), seeds)
        return self.sampler.sample(self._continuing(self.denoiser(condition), prefix), draw(), draw)

    def _draw(self, count: int, seeds: Sequence[int] | None) -> Draw:
        """Returns what draws ``[count, Tp, action.size]``, on the CPU so that devices see the same noise."""
        shape = (self.config.horizon, self.action.size)
        if seeds is None:
            return lambda: torch.randn(count, *shape).to(self.device)
        generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        return lambda: torch.stack([torch.randn(shape, generator=g) for g in generators]).to(self.device)

    def _denoise(
        self,
        net: Callable[[Tensor, Tensor], Tensor],
        x: Tensor,
        level: Tensor,
        known: Tensor | None = None,
        feedback: Tensor | None = None,
    ) -> Tensor:
        """Estimates the clean chunk by a net with its condition bound; see ``InformedDenoiser``."""
        predicted = net(self._net_input(x, level, known, feedback), level)
        return self.prediction.clean(self.sampler.path, x, level, predicted)

    def _net_input(
        self, x: Tensor, level: Tensor, known: Tensor | None = None, feedback: Tensor | None = None
    ) -> Tensor:
        """Returns what the net sees: the noisy chunk and, where it was built for them, further channels."""
        parts = [x]
        if self.config.longest_prefix:
            parts.append(torch.zeros_like(x[..., :1]) if known is None else known[..., None].to(x.dtype))
        if self._has_feedback:
            parts.append(torch.zeros_like(x) if feedback is None else feedback.to(x.dtype))
        return x if len(parts) == 1 else torch.cat(parts, dim=-1)

    # --- hooks ----------------------------------------------------------------------------------------------

    @property
    def _has_feedback(self) -> bool:
        return self.config.feedback.order != "none"

    def _continuing(self, denoiser: InformedDenoiser, prefix: ChunkPrefix | None) -> InformedDenoiser:
        if prefix is None:
            return denoiser
        if self.config.longest_prefix:
            return keep_prefix(denoiser, prefix, self.config.longest_prefix)
        return pull_to_prefix(denoiser, self.sampler.path, prefix)

    def _cost(self, cost: Cost, observation: Mapping[str, Tensor]) -> Cost:
        """Returns the cost of chunks in the sampler's numbers ``[B, Tp, D]``."""

        def of_normalized(chunk: Tensor) -> Tensor:
            with torch.autocast(chunk.device.type, enabled=False):
                return cost(self.actions(chunk, observation)[:, self.observation_steps - 1 :])

        return of_normalized

    def _signal(self, operator: Operator, observation: Mapping[str, Tensor]) -> Signal:
        """Returns the feedback on estimates ``[B, Tp, D]``, the operator being one of real units.

        Raises:
            ConfigError: the policy was trained without feedback.
        """
        order = self.config.feedback.order
        if order not in SIGNALS:
            raise ConfigError(
                f"{type(self).__name__} was trained without feedback (policy.feedback.order=none); sample "
                f"without it, or train with order={' or '.join(SIGNALS)}."
            )
        past, base = self.observation_steps - 1, self.action.base(observation)

        def on_normalized(chunk: Tensor) -> Tensor:
            with torch.autocast(chunk.device.type, enabled=False):
                executed = operator(self.actions(chunk, observation)[:, past:])
                represented = self.action.encode(executed.to(chunk), base)
                return torch.cat([chunk[:, :past], self.normalizer.normalize("action", represented)], dim=1)

        return SIGNALS[order](on_normalized)

    # --- training -------------------------------------------------------------------------------------------

    def _chunk_loss(
        self,
        clean: Tensor,
        condition: Tensor,
        generator: torch.Generator | None,
        signal: Signal | None = None,
    ) -> Tensor:
        repeats = self.config.noise_samples
        if repeats > 1:
            clean, condition = clean.repeat(repeats, 1, 1), condition.repeat(repeats, 1)
        random = RandomNumbers(generator, clean.device)
        noise = random.normal(clean.shape)
        level = self._random_levels(len(clean), random)
        known = self._random_prefix(clean, random) if self.config.longest_prefix else None
        net = partial(self.net, condition=condition)

        def noisy(at: Tensor) -> Tensor:
            x = mix(self.sampler.path.scales(at), clean, noise)
            return x if known is None else torch.where(known[..., None], clean, x)

        feedback = None
        if signal is not None:
            denoise = partial(self._denoise, net, known=known)
            feedback = self._random_feedback(denoise, _by_copies(signal, repeats), noisy, level, random)
        predicted = net(self._net_input(noisy(level), level, known, feedback), level)
        error = self._error(predicted.float(), self.prediction.target(self.sampler.path, clean, noise, level))
        if known is None:
            return error.mean()
        unknown = (~known)[..., None]  # as factors: to pick the rows out would be to wait for a GPU
        return (error * unknown).sum() / (unknown.sum() * error.shape[-1])

    def _error(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Returns the error of each predicted number, of which the loss is the mean."""
        return (predicted - target).square()

    @abstractmethod
    def _random_levels(self, count: int, random: RandomNumbers) -> Tensor:
        """Draws the noise levels ``[count]`` of a training step."""

    def _random_prefix(self, clean: Tensor, random: RandomNumbers) -> Tensor:
        """Draws which rows are known ``[B, Tp]``: none in half of the chunks, else as many as a delay has.

        Known rows tell much of what the observation would have to; a net that nearly always had some would
        not learn to see.
        """
        delay = 1 + random.integers(self.config.longest_prefix, len(clean))
        delay = torch.where(random.uniform(len(clean)) < 0.5, 0, delay)
        row = torch.arange(clean.shape[1], device=clean.device) - (self.observation_steps - 1)
        return (row >= 0) & (row < delay[:, None])

    def _random_feedback(
        self,
        denoise: InformedDenoiser,
        signal: Signal,
        noisy: Callable[[Tensor], Tensor],
        level: Tensor,
        random: RandomNumbers,
    ) -> Tensor:
        """Draws what sampling would feed back: nothing, a look-ahead, or the refined estimate before it."""
        config, before = self.config.feedback, self.sampler.before(level)
        share = random.uniform(len(level))[:, None, None]
        with torch.no_grad():
            ahead = signal(denoise(noisy(level), level).float())
            probed = signal(denoise(noisy(before), before).float())
            refined = signal(denoise(noisy(before), before, feedback=probed).float())
        chosen = torch.where(share < config.unguided + config.cached, refined, ahead)
        return torch.where(share < config.unguided, 0.0, chosen)


class FlowPolicy(GenerativePolicy):
    """Flow matching along straight paths; by default the net predicts the clean chunk.

    A net that predicts the velocity itself has to pass the noise through unharmed; small nets cannot.
    """

    config: FlowConfig
    step_scale = 1000.0

    def __init__(self, config: FlowConfig, spec: Spec, dt: float) -> None:
        super().__init__(config, spec, dt)
        if config.prediction == "noise":
            raise ConfigError(
                "policy.prediction is 'noise', but a flow begins at pure noise, where that tells nothing of "
                "the data. Use 'clean' or 'velocity', or the policy 'diffusion'."
            )
        self.sampler = FlowSampler(config.sampler, config.sampling_steps)

    def _random_levels(self, count: int, random: RandomNumbers) -> Tensor:
        return random.uniform(count)

    def _net_input(
        self, x: Tensor, level: Tensor, known: Tensor | None = None, feedback: Tensor | None = None
    ) -> Tensor:
        if self.config.prediction == "clean":
            shrunk = shrink(x, level)
            x = shrunk if known is None else torch.where(known[..., None], x, shrunk)
        return super()._net_input(x, level, known, feedback)


class DiffusionPolicy(GenerativePolicy):
    """Denoising diffusion; by default the net predicts the clean chunk."""

    config: DiffusionConfig
    sampler: DiffusionSampler

    def __init__(self, config: DiffusionConfig, spec: Spec, dt: float) -> None:
        super().__init__(config, spec, dt)
        self.sampler = DiffusionSampler(
            config.sampler,
            config.noise_levels,
            config.sampling_steps,
            config.eta,
            clip=_FARTHEST[config.normalization],
        )

    def _random_levels(self, count: int, random: RandomNumbers) -> Tensor:
        return random.integers(self.config.noise_levels, count)

    def _net_input(
        self, x: Tensor, level: Tensor, known: Tensor | None = None, feedback: Tensor | None = None
    ) -> Tensor:
        if self.config.prediction == "clean":  # as for a flow: what the noisy chunk tells of the clean one
            shrunk = self.sampler.path.scales(level)[0][:, None, None] * x
            x = shrunk if known is None else torch.where(known[..., None], x, shrunk)
        return super()._net_input(x, level, known, feedback)

    def _denoise(
        self,
        net: Callable[[Tensor, Tensor], Tensor],
        x: Tensor,
        level: Tensor,
        known: Tensor | None = None,
        feedback: Tensor | None = None,
    ) -> Tensor:
        # where nearly all is noise an estimate is of any size; hooks should not see such ones
        return self.sampler.clipped(super()._denoise(net, x, level, known, feedback))


def _by_copies(signal: Signal, copies: int) -> Signal:
    """Returns the feedback on a batch repeated ``copies`` times, of which ``signal`` knows the single one."""
    return lambda chunk: torch.cat([signal(part) for part in chunk.chunk(copies)])
