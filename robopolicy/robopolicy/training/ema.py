"""Exponentially averaged weights, with the warm-up of the decay that Diffusion Policy uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from robopolicy.checkpoint import one_line
from robopolicy_datasets.errors import CheckpointError


class AveragedWeights:
    """A running average of a model's parameters.

    The decay at step k is ``min(decay, 1 - (1 + k) ** -0.75)``: early on the average follows closely.

    Args:
        model: whose parameters are averaged.
        decay: the largest decay.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._names = [name for name, _ in model.named_parameters()]
        self._average = [parameter.detach().clone() for parameter in model.parameters()]

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Takes the parameters after ``step`` into the average."""
        decay = min(self.decay, 1 - (1 + step) ** -0.75)
        torch._foreach_lerp_(self._average, [p.detach() for p in model.parameters()], 1 - decay)

    def named(self) -> dict[str, Tensor]:
        """Returns the averaged parameters under the model's names."""
        return dict(zip(self._names, self._average, strict=True))

    @torch.no_grad()
    def restore(self, weights_file: Path) -> None:
        """Reads the average back from a checkpoint's weights file.

        Raises:
            CheckpointError: the file is missing, damaged, or of another model.
        """
        try:
            stored = load_file(weights_file)
            for name, average in self.named().items():
                average.copy_(stored[name])
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            raise CheckpointError(
                f"Training cannot be resumed with '{weights_file}': {one_line(error)} Start a new run."
            ) from error

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Lends the averaged weights to the model for the duration of a ``with`` block."""
        self._swap(model)
        try:
            yield
        finally:
            self._swap(model)

    @torch.no_grad()
    def _swap(self, model: nn.Module) -> None:
        for parameter, average in zip(model.parameters(), self._average, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(kept)
