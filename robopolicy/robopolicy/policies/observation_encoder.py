"""One encoder for a window of observations: images, readings, forces and sentences become one vector."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from robopolicy.nets.history import HistoryEncoder
from robopolicy.nets.vision import ImageEncoder
from robopolicy.policies.configs import ChunkPolicyConfig
from robopolicy.policies.image_backbones import make_backbone
from robopolicy.policies.normalizer import Normalizer, module_name
from robopolicy.policies.representation import is_history, observation_size, represent_observation
from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_datasets.spec import Feature, Spec


class ObservationEncoder(nn.Module):
    """Encodes ``{key: [B, To, *shape]}`` to a condition vector ``[B, size]``, by each feature's kind.

    Images (uint8, HWC) go through one encoder per camera, the newest samples of a fast sensor through a
    convolution over time. Of a sentence only the newest observation counts. All other features are
    represented by their kind, normalized and passed on.

    Args:
        spec: the policy's Spec.
        config: of the policy.
        normalizer: with one map per low-dimensional observation key; owned by the policy.

    Raises:
        SpecError: there is a depth image.
        ConfigError: nothing is observed, or the images do not suit their backbone.
        CheckpointError: the weights for a backbone cannot be used.
    """

    def __init__(self, spec: Spec, config: ChunkPolicyConfig, normalizer: Normalizer) -> None:
        super().__init__()
        self.spec = spec
        self.steps = config.observation_steps
        self.noise = config.observation_noise
        self._normalizer = [normalizer]  # in a list: the policy owns it, it is no part of this module
        self.cameras = nn.ModuleDict()
        self.histories = nn.ModuleDict()
        self.size = sum(self._add(feature, config) for feature in spec.observation)
        if self.size == 0:
            raise ConfigError("The policy observes nothing; name at least one key in observation_keys.")

    def _add(self, feature: Feature, config: ChunkPolicyConfig) -> int:
        """Makes what encodes a feature; returns how many numbers describe its window."""
        if feature.kind == "depth":
            raise SpecError(
                f"'{feature.key}' is a depth image; the image encoder takes rgb only so far. "
                "Leave it out of policy.observation_keys."
            )
        name = module_name(feature.key)
        if feature.kind == "rgb":
            height, width, _ = feature.shape
            backbone = make_backbone(config.encoder, feature)
            self.cameras[name] = ImageEncoder(backbone, height, width, config.encoder.features)
            return self.steps * config.encoder.features
        if is_history(feature):
            samples, channels = self.steps * feature.shape[0], observation_size(feature)
            self.histories[name] = HistoryEncoder(samples, channels, config.history_features)
            return config.history_features
        if feature.kind == "language":
            return observation_size(feature)
        return self.steps * observation_size(feature)

    def forward(self, observation: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Encodes a batch of windows.

        Args:
            observation: ``{key: [B, To, *shape]}``; images uint8.
            generator: of the noise, which there is in training mode only.
        """
        parts = []
        for feature in self.spec.observation:
            value = observation[feature.key]
            if feature.kind == "rgb":
                parts.append(self._image(feature, value))
            elif feature.kind == "language":
                parts.append(represent_observation(feature, value[:, -1].float()))
            elif is_history(feature):
                history = self._reading(feature, value, generator).flatten(1, 2)
                parts.append(self.histories[module_name(feature.key)](history).float())
            else:
                parts.append(self._reading(feature, value, generator).flatten(1))
        return torch.cat(parts, dim=-1)

    def moved(self, condition: Tensor, most: float, generator: torch.Generator | None = None) -> Tensor:
        """Moves encoded observations without images or histories, as if their sensors were shifted.

        Args:
            condition: ``[B, C]``.
            most: largest standard deviation of the movement; each row has its own, from 0 on. A feature moves
                alike at all steps of the window, so that its speed stays plausible.
            generator: of the movement.
        """
        device = condition.device if generator is None else generator.device
        batch, parts = len(condition), []
        for feature in self.spec.observation:
            drawn = torch.randn(batch, observation_size(feature), generator=generator, device=device)
            parts.append(drawn.repeat(1, 1 if feature.kind == "language" else self.steps))
        spread = most * torch.rand(batch, 1, generator=generator, device=device)
        return condition + (spread * torch.cat(parts, -1)).to(condition.device)

    def _image(self, feature: Feature, value: Tensor) -> Tensor:
        images = value.flatten(0, 1).permute(0, 3, 1, 2)
        images = images.contiguous().float() / 127.5 - 1.0
        encoded = self.cameras[module_name(feature.key)](images)
        return encoded.view(len(value), -1).float()

    def _reading(self, feature: Feature, value: Tensor, generator: torch.Generator | None) -> Tensor:
        """Returns a feature represented, normalized and, in training, with noise."""
        represented = represent_observation(feature, value.float())
        normalized = self._normalizer[0].normalize(feature.key, represented)
        if self.training and self.noise > 0:
            device = normalized.device if generator is None else generator.device
            drawn = torch.randn(normalized.shape, generator=generator, device=device)
            normalized = normalized + self.noise * drawn.to(normalized.device)
        return normalized
