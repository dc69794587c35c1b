"""One encoder for a window of observations: camera images and low-dimensional features to one vector."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from robopolicy.nets.vision import ImageEncoder
from robopolicy.policies.configs import ImageEncoderConfig
from robopolicy.policies.normalizer import Normalizer, module_name
from robopolicy.policies.representation import observation_size, represent_observation
from robopolicy_datasets.errors import CheckpointError, ConfigError, SpecError
from robopolicy_datasets.spec import Spec


class ObservationEncoder(nn.Module):
    """Encodes ``{key: [B, To, *shape]}`` to a condition vector ``[B, size]``.

    Images (uint8, HWC) go through one encoder per camera, all other features are represented by their
    kind, normalized and passed on.

    Args:
        spec: the policy's Spec.
        steps: observations in the window (To).
        config: of the image encoders.
        normalizer: with one map per low-dimensional observation key; owned by the policy.
        noise: standard deviation of the noise on normalized low-dimensional values in training.
    """

    def __init__(
        self, spec: Spec, steps: int, config: ImageEncoderConfig, normalizer: Normalizer, noise: float = 0.0
    ) -> None:
        super().__init__()
        self.spec = spec
        self.noise = noise
        self._normalizer = [normalizer]  # in a list: the policy owns it, it is no part of this module
        self.cameras = nn.ModuleDict()
        size = 0
        for feature in spec.observation:
            if feature.kind == "depth":
                raise SpecError(
                    f"'{feature.key}' is a depth image; the image encoder takes rgb only so far. "
                    "Leave it out of policy.observation_keys."
                )
            if feature.kind == "rgb":
                height, width, _ = feature.shape
                halvings = len(config.channels) + 2
                if min(height, width) <= 2**halvings:
                    raise ConfigError(
                        f"'{feature.key}' has {height} x {width} pixels; policy.encoder.channels has "
                        f"{len(config.channels)} stages, which need more than {2**halvings}. Use fewer."
                    )
                self.cameras[module_name(feature.key)] = ImageEncoder(
                    height, width, config.channels, config.blocks, config.features, config.groups
                )
                size += config.features
            else:
                size += observation_size(feature)
        if size == 0:
            raise ConfigError("The policy observes nothing; name at least one key in observation_keys.")
        self.size = steps * size
        if config.pretrained:
            self._load(Path(config.pretrained))

    def _load(self, path: Path) -> None:
        """Loads backbones from a safetensors file: of one encoder (for all cameras) or of our checkpoint."""
        if not path.is_file():
            raise CheckpointError(
                f"encoder.pretrained is '{path}', which is no file. Give a safetensors file."
            )
        try:
            stored = load_file(path)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"encoder.pretrained '{path}' is no safetensors file: {error}.") from error
        for key, camera in self.cameras.items():
            prefix = f"encoder.cameras.{key}.backbone."
            if not any(name.startswith(prefix) for name in stored):
                prefix = "backbone."
            weights = {
                name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)
            }
            backbone = camera.get_submodule("backbone")
            wanted = {name: value.shape for name, value in backbone.state_dict().items()}
            if {name: value.shape for name, value in weights.items()} != wanted:
                raise CheckpointError(
                    f"'{path}' does not fit the image encoder of '{key}': it needs {len(wanted)} tensors "
                    f"'backbone.*' of the configured sizes; found {len(weights)}. Check encoder.channels and "
                    "encoder.blocks."
                )
            backbone.load_state_dict(weights)

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
                images = value.flatten(0, 1).permute(0, 3, 1, 2)
                images = images.contiguous().float() / 127.5 - 1.0
                encoded = self.cameras[module_name(feature.key)](images)
                parts.append(encoded.view(len(value), -1).float())
            else:
                represented = represent_observation(feature, value.float())
                normalized = self._normalizer[0].normalize(feature.key, represented).flatten(1)
                if self.training and self.noise > 0:
                    device = normalized.device if generator is None else generator.device
                    drawn = torch.randn(normalized.shape, generator=generator, device=device)
                    normalized = normalized + self.noise * drawn.to(normalized.device)
                parts.append(normalized)
        return torch.cat(parts, dim=-1)
