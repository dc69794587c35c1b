"""What all policies that predict chunks share: what they see and command, and in which numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from robopolicy.policies.config_checks import check_config
from robopolicy.policies.configs import ChunkPolicyConfig
from robopolicy.policies.normalizer import Normalizer
from robopolicy.policies.observation_encoder import ObservationEncoder
from robopolicy.policies.representation import (
    ActionRepresentation,
    has_unit_size,
    observation_size,
    represent_observation,
)
from robopolicy.sampling.prefix import ChunkPrefix, soft_mask
from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_datasets.spec import Spec
from robopolicy_drivers.interfaces import Prefix

Array = NDArray[Any]


class ChunkPolicy(nn.Module, ABC):
    """Maps a window of observations to a chunk of actions.

    A subclass says what it learns (``_chunk_loss``) and what it predicts (``_predict``), both in the
    normalized numbers of ``action``.

    Args:
        config: the policy's settings.
        spec: of the data, with the histories of the streams that the config names; the policy keeps the
            observation features that its config names.
        dt: time between control steps, s.

    Raises:
        ConfigError: impossible settings.
        SpecError: the data lacks a named feature or has an action that the policy cannot produce.
    """

    stochastic = False  # whether chunks depend on seeds
    bf16 = False  # whether nets sample in bfloat16; poses never do
    takes_prefix = False  # whether chunks can continue what the robot is about to play

    def __init__(self, config: ChunkPolicyConfig, spec: Spec, dt: float) -> None:
        super().__init__()
        check_config(config)
        self.config = config
        self.dt = dt
        self.spec = _seen(config, spec)
        self.action = ActionRepresentation(self.spec, config.pose_representation)
        sizes = {f.key: observation_size(f) for f in self.spec.observation if not f.is_image}
        self.normalizer = Normalizer({**sizes, "action": self.action.size})
        self.encoder = ObservationEncoder(self.spec, config, self.normalizer)

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
            observation: all training values of each low-dimensional feature, ``{key: [N, *shape]}``; of a
                history any number of points, e.g. the samples of its stream one by one.
            windows: training windows ``{"observation": {key: [N, To, *shape]}, "action": [N, Tp, A]}``.
        """
        mode = self.config.normalization
        for feature in self.spec.observation:
            if not feature.is_image:
                values = represent_observation(feature, torch.tensor(observation[feature.key]).float())
                keep = torch.full((values.shape[-1],), has_unit_size(feature))
                self.normalizer.fit(feature.key, values.flatten(0, -2), mode, keep)
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
        return self._chunk_loss(clean, condition, generator)

    def forward(self, batch: Mapping[str, Any], generator: torch.Generator | None = None) -> Tensor:
        """Same as ``loss``; the name that distributed training wraps."""
        return self.loss(batch, generator)

    def infer(
        self,
        observation: Mapping[str, Array],
        *,
        seeds: Sequence[int] | None = None,
        prefix: Prefix | None = None,
    ) -> Array:
        """Predicts chunks for numpy observations; row 0 is the action at the newest observation's step.

        Args:
            observation: ``{key: [N, To, *shape]}``.
            seeds: one per row: what a row draws depends on its seed alone, not on the batch around it.
            prefix: what the chunks should continue (real-time chunking).

        Returns:
            actions in real units ``[N, Tp - To + 1, A]``.

        Raises:
            SpecError: a feature is missing or has the wrong shape or, for an image, dtype; or the prefix has.
            ConfigError: there is not one seed per row, or the policy takes no prefix.
        """
        if prefix is not None and not self.takes_prefix:
            raise ConfigError(f"{type(self).__name__} takes no prefix; infer without one.")
        self.eval()
        # the guidance of a prefix needs a gradient, which what inference mode makes cannot have
        with torch.inference_mode() if prefix is None else torch.no_grad():
            tensors = self._tensors(observation)
            count = len(next(iter(tensors.values())))
            if seeds is not None and len(seeds) != count:
                raise ConfigError(
                    f"infer was given {len(seeds)} seeds for {count} observations; give one for each."
                )
            wanted = None if prefix is None else self.represent_prefix(prefix, tensors)
            chunk = self.predict(tensors, seeds, wanted)
            return chunk[:, self.observation_steps - 1 :].cpu().numpy()

    def predict(
        self,
        observation: Mapping[str, Tensor],
        seeds: Sequence[int] | None = None,
        prefix: ChunkPrefix | None = None,
    ) -> Tensor:
        """As ``infer``, on the device.

        Args:
            observation: ``{key: [B, To, *shape]}``.
            seeds: one per row.
            prefix: what the chunks should continue, as of ``represent_prefix``.

        Returns:
            actions in real units ``[B, Tp, A]``, row ``To - 1`` belonging to the newest observation.
        """
        with self.precision():
            predicted = self.respond(self.encoder(observation), seeds, prefix)
        return self.actions(predicted, observation)

    def precision(self) -> AbstractContextManager[Any]:
        """Returns the context in which nets are evaluated: of bfloat16, where the policy is to use it."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext()

    def sample_in_bfloat16(self) -> None:
        """Evaluates nets in bfloat16 from now on, for sampling only."""
        self.bf16 = True

    def actions(self, chunk: Tensor, observation: Mapping[str, Tensor]) -> Tensor:
        """Returns the actions ``[B, Tp, A]`` in real units that a normalized chunk ``[B, Tp, D]`` means."""
        represented = self.normalizer.unnormalize("action", chunk.float())
        return self.action.decode(represented, self.action.base(observation))

    def respond(
        self, condition: Tensor, seeds: Sequence[int] | None = None, prefix: ChunkPrefix | None = None
    ) -> Tensor:
        """Predicts in normalized numbers, differentiably: the map that a certificate is about.

        Args:
            condition: encoded observations ``[B, C]``.
            seeds: one per row.
            prefix: what the chunks should continue.

        Returns:
            normalized, represented chunks ``[B, Tp, D]``.
        """
        return self._predict(condition, seeds, prefix).float()

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
        if len(set(rows.values())) > 1 or 0 in rows.values():
            listed = ", ".join(f"{key} {count}" for key, count in rows.items())
            raise SpecError(
                f"Every observation needs the same number of rows, at least one; given: {listed}."
            )
        return tensors

    def _on_device(self, value: Tensor) -> Tensor:
        """Copies to the device; to a GPU from pinned memory, so that one copy runs while the next is made."""
        if self.device.type == "cuda":
            return value.pin_memory().to(self.device, non_blocking=True)
        return value.to(self.device)

    @abstractmethod
    def _chunk_loss(self, clean: Tensor, condition: Tensor, generator: torch.Generator | None) -> Tensor:
        """Returns the loss given the normalized chunk ``[B, Tp, D]`` and the condition ``[B, C]``."""

    @abstractmethod
    def _predict(self, condition: Tensor, seeds: Sequence[int] | None, prefix: ChunkPrefix | None) -> Tensor:
        """Returns normalized chunks ``[B, Tp, D]`` for a condition ``[B, C]``."""


def _seen(config: ChunkPolicyConfig, spec: Spec) -> Spec:
    """Returns the Spec with what the policy is to see.

    Raises:
        SpecError: there is no such feature, or not the history of a stream that the config describes.
    """
    for key, span in config.streams.items():
        feature = spec[key]
        if not feature.history or feature.shape[0] != span.samples:
            raise SpecError(
                f"policy.streams asks for {span.samples} samples of '{key}', and the Spec has "
                f"{feature.describe()}. Give the Spec with the histories of the data's streams "
                "(robopolicy_datasets.history.with_histories)."
            )
    keys = dict.fromkeys([*config.observation_keys, *config.streams])
    return spec.select(keys) if config.observation_keys else spec
