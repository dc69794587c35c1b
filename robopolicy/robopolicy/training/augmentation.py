"""Image augmentation on the device: windows whose cameras stand and see a little differently.

All frames of a window change alike, and each window and each camera on its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from robopolicy.training.configs import AugmentationConfig
from robopolicy_datasets.errors import ConfigError

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_YIQ = (_LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))  # NTSC: luma and a plane of colours


class Augmentation:
    """Changes the images of batches for training.

    Args:
        config: how much.
        keys: of the rgb images.

    Raises:
        ConfigError: a strength is out of range.
    """

    def __init__(self, config: AugmentationConfig, keys: Sequence[str]) -> None:
        if config.shift < 0:
            raise ConfigError(f"trainer.augmentation.shift is {config.shift}; it must be at least 0.")
        for name, most in (("brightness", 1.0), ("contrast", 1.0), ("saturation", 1.0), ("hue", 0.5)):
            if not 0 <= getattr(config, name) <= most:
                raise ConfigError(
                    f"trainer.augmentation.{name} is {getattr(config, name)}; it must lie in [0, {most:g}]."
                )
        self.config, self.keys = config, list(keys)

    def __call__(self, batch: Mapping[str, Any], generator: torch.Generator) -> dict[str, Any]:
        """Returns a batch with changed images.

        Args:
            batch: of windows, as tensors on any device; not changed. Images are ``[B, T, H, W, 3]``, uint8
                or, from 0 to 1, floats.
            generator: on the CPU: every device sees the same changes, and none waits for the numbers.
        """
        observation = dict(batch["observation"])
        for key in self.keys:
            images = random_shift(observation[key], self.config.shift, generator)
            observation[key] = jitter_colours(images, self.config, generator)
        return {**batch, "observation": observation}


def random_shift(images: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Moves the images of each window by up to ``pixels`` in both directions, repeating the border.

    Args:
        images: ``[B, T, H, W, C]``.
        pixels: at least 0.
        generator: on the CPU.
    """
    if pixels == 0:
        return images
    height, width = images.shape[2:4]
    offsets = torch.randint(0, 2 * pixels + 1, (len(images), 2), generator=generator).tolist()
    padded = _wider(_wider(images, 2, pixels), 3, pixels)
    # a slice for each window: far cheaper than a gather or grid_sample at these sizes
    return torch.stack(
        [window[:, y : y + height, x : x + width] for window, (y, x) in zip(padded, offsets, strict=True)]
    )


def jitter_colours(images: Tensor, config: AugmentationConfig, generator: torch.Generator) -> Tensor:
    """Changes brightness, contrast, saturation and hue of each window by random amounts.

    As torchvision's ``ColorJitter`` in this order, except that the hue turns in the plane of colours of equal
    luma (YIQ), that the contrast is about the mean of all frames, and that values are cut off once, at the
    end. The four are one affine map of the colours.

    Args:
        images: ``[B, T, H, W, 3]``, uint8 or, from 0 to 1, floats.
        config: the strengths.
        generator: on the CPU.
    """
    if config.brightness == config.contrast == config.saturation == config.hue == 0:
        return images
    count = len(images)
    brightness, contrast, saturation, turn = (
        strength * (2 * torch.rand(count, generator=generator) - 1)
        for strength in (config.brightness, config.contrast, config.saturation, config.hue)
    )
    brightness, contrast, saturation = brightness + 1, contrast + 1, saturation + 1
    grey = torch.tensor(_LUMA).expand(3, 3)  # maps a colour to its luma, three times
    mixed = saturation.view(-1, 1, 1) * torch.eye(3) + (1 - saturation).view(-1, 1, 1) * grey
    colours = _turned(turn) @ mixed
    colours = colours * (brightness * contrast).view(-1, 1, 1)
    device, largest = images.device, 255.0 if images.dtype == torch.uint8 else 1.0
    pixels = images.flatten(1, 3).float()
    mean = (pixels.mean(dim=1) @ torch.tensor(_LUMA, device=device)).view(-1, 1, 1)
    offset = mean * (brightness * (1 - contrast)).to(device).view(-1, 1, 1)
    changed = torch.baddbmm(offset, pixels, colours.to(device).transpose(1, 2)).clamp(0, largest)
    if images.dtype == torch.uint8:
        changed = changed.round()
    return changed.to(images.dtype).view(images.shape)


def _turned(turns: Tensor) -> Tensor:
    """Returns the maps of colours ``[B, 3, 3]`` that turn the hue by ``turns [B]``, 1 being full circle."""
    to_yiq = torch.tensor(_YIQ)
    angle = 2 * math.pi * turns
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    rotation = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], dim=-1).view(-1, 3, 3)
    return torch.linalg.inv(to_yiq) @ rotation @ to_yiq


def _wider(images: Tensor, dim: int, pixels: int) -> Tensor:
    """Repeats the first and the last slice of a dimension ``pixels`` times."""
    first, last = images.narrow(dim, 0, 1), images.narrow(dim, images.shape[dim] - 1, 1)
    return torch.cat([first] * pixels + [images] + [last] * pixels, dim)
