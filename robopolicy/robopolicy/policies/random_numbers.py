"""Random numbers of a training step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class RandomNumbers:
    """Draws where a generator lives, and brings what it drew to a device.

    With a generator on the CPU every device sees the same numbers.

    Args:
        generator: None: torch's global one of the device.
        device: where the numbers are needed.
    """

    def __init__(self, generator: torch.Generator | None, device: torch.device) -> None:
        self._generator, self._device = generator, device
        self._source = device if generator is None else generator.device

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Draws standard normal numbers ``shape``."""
        return torch.randn(shape, generator=self._generator, device=self._source).to(self._device)

    def uniform(self, count: int) -> Tensor:
        """Draws numbers ``[count]`` from 0 to 1."""
        return torch.rand(count, generator=self._generator, device=self._source).to(self._device)

    def integers(self, below: int, count: int) -> Tensor:
        """Draws integers ``[count]`` from 0 on."""
        drawn = torch.randint(below, (count,), generator=self._generator, device=self._source)
        return drawn.to(self._device)
