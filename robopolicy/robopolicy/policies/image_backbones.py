"""Backbones of image encoders: which there are, and weights for them from a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from robopolicy.nets.lipschitz.convolution import aol_backbone
from robopolicy.nets.resnet import ResNet18
from robopolicy.nets.vision import residual_backbone
from robopolicy.policies.configs import ImageEncoderConfig
from robopolicy_datasets.errors import CheckpointError, ConfigError, unknown_name
from robopolicy_datasets.spec import Feature


class Backbone(NamedTuple):
    """How a backbone is built from its config, and how often it halves an image."""

    make: Callable[[ImageEncoderConfig], nn.Module]
    halvings: Callable[[ImageEncoderConfig], int]


BACKBONES = {
    "residual": Backbone(
        lambda config: residual_backbone(config.channels, config.blocks, config.groups),
        lambda config: len(config.channels) + 2,
    ),
    "resnet18": Backbone(lambda config: ResNet18(), lambda config: 5),
    "aol": Backbone(lambda config: aol_backbone(config.channels), lambda config: len(config.channels)),
}

NOT_NEEDED = ("fc.", "num_batches_tracked")  # of torchvision's: the classifier, and counters


def make_backbone(config: ImageEncoderConfig, feature: Feature) -> nn.Module:
    """Builds the backbone that a config names for the images of a feature, with the weights of its file.

    Args:
        config: names the backbone.
        feature: the images.

    Raises:
        ConfigError: there is no such backbone, or the images are too small for it.
        CheckpointError: the file cannot be read, or does not fit.
    """
    if config.backbone not in BACKBONES:
        raise unknown_name("policy.encoder.backbone", config.backbone, BACKBONES)
    height, width, _ = feature.shape
    make, halvings = BACKBONES[config.backbone]
    if min(height, width) <= 2 ** halvings(config):
        raise ConfigError(
            f"'{feature.key}' has {height} x {width} pixels; encoder.backbone={config.backbone} halves "
            f"them {halvings(config)} times, so it needs more than {2 ** halvings(config)}. Use fewer stages "
            "in policy.encoder.channels, or larger images."
        )
    backbone = make(config)
    if config.pretrained:
        _load(backbone, Path(config.pretrained), feature.key)
    return backbone.requires_grad_(not config.frozen)


def _load(backbone: nn.Module, path: Path, key: str) -> None:
    """Loads weights: of a checkpoint of ours, of one encoder, or of a backbone alone, as torchvision's."""
    if not path.is_file():
        raise CheckpointError(f"encoder.pretrained is '{path}', which is no file. Give a safetensors file.")
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"encoder.pretrained '{path}' is no safetensors file: {error}.") from error
    weights = _named(stored, f"encoder.cameras.{key}.backbone.") or _named(stored, "backbone.")
    weights = weights or {name: value for name, value in stored.items() if not _is_spare(name)}
    wanted = {name: value.shape for name, value in backbone.state_dict().items()}
    if {name: value.shape for name, value in weights.items()} != wanted:
        raise CheckpointError(
            f"'{path}' does not fit the image encoder of '{key}': it needs {len(wanted)} tensors such as "
            f"'backbone.{next(iter(wanted))}' of the configured sizes; found {len(weights)}. Check "
            "encoder.backbone, encoder.channels and encoder.blocks."
        )
    backbone.load_state_dict(weights)


def _named(stored: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)}


def _is_spare(name: str) -> bool:
    return name.startswith(NOT_NEEDED[0]) or name.endswith(NOT_NEEDED[1])
