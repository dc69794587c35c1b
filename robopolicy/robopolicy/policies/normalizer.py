"""Scales represented numbers to the size that nets and samplers expect."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from robopolicy_datasets.errors import CheckpointError, ConfigError

MODES = ("limits", "standard")
SMALLEST_SCALE = 1e-4  # below this spread a number counts as constant: it is centred, not magnified


def _limits(values: Tensor) -> tuple[Tensor, Tensor]:
    low, high = values.amin(0), values.amax(0)
    half = (high - low) / 2
    return torch.where(half < SMALLEST_SCALE, torch.ones_like(half), half), (low + high) / 2


def _standard(values: Tensor) -> tuple[Tensor, Tensor]:
    deviation = values.std(0, correction=0)
    # a number that hardly moves must not be blown up beside its neighbours
    floor = torch.clamp(0.05 * deviation.max(), min=SMALLEST_SCALE)
    return torch.where(
        deviation < SMALLEST_SCALE, torch.ones_like(deviation), deviation.clamp_min(floor)
    ), values.mean(0)


def module_name(key: str) -> str:
    """Returns the name of a feature's part of a torch module, where a name may hold no dot."""
    return key.replace(".", "/")


class Normalizer(nn.Module):
    """One affine map per key: ``normalized = (value - center) / scale``."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        super().__init__()
        for key, size in sizes.items():
            self.register_buffer(module_name(f"{key}_center"), torch.zeros(size))
            self.register_buffer(module_name(f"{key}_scale"), torch.ones(size))

    def fit(self, key: str, values: Tensor, mode: str, keep: Tensor | None = None) -> None:
        """Fits the map of one key.

        Args:
            key: the feature.
            values: represented training values ``[N, size]``.
            mode: ``limits`` (to [-1, 1]) or ``standard`` (zero mean, unit variance).
            keep: mask ``[size]`` of numbers that are left as they are.

        Raises:
            ConfigError: an unknown mode.
        """
        if mode not in MODES:
            raise ConfigError(f"normalization is '{mode}'. Allowed: {', '.join(MODES)}.")
        values = values.double()
        scale, center = _limits(values) if mode == "limits" else _standard(values)
        if keep is not None:
            scale = torch.where(keep, torch.ones_like(scale), scale)
            center = torch.where(keep, torch.zeros_like(center), center)
        self._map(key)[0].copy_(center)
        self._map(key)[1].copy_(scale)

    def normalize(self, key: str, value: Tensor) -> Tensor:
        """Maps real values ``[..., size]`` to normalized ones."""
        center, scale = self._map(key)
        return (value - center) / scale

    def unnormalize(self, key: str, value: Tensor) -> Tensor:
        """Maps normalized values ``[..., size]`` back."""
        center, scale = self._map(key)
        return value * scale + center

    def scale(self, key: str) -> Tensor:
        """Returns by what normalized values are multiplied ``[size]``."""
        return self._map(key)[1]

    def _map(self, key: str) -> tuple[Tensor, Tensor]:
        name = module_name(key)
        return self.get_buffer(f"{name}_center"), self.get_buffer(f"{name}_scale")

    def check_finite(self) -> None:
        """Raises CheckpointError where a map is not finite, as after a damaged file."""
        for name, buffer in self.named_buffers():
            if not torch.isfinite(buffer).all():
                raise CheckpointError(
                    f"The normalizer's '{name}' is not finite; train again or restore the file."
                )
