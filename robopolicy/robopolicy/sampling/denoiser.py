"""Denoisers: the one convention on which samplers and hooks work.

A denoiser maps a noisy chunk and its level to an estimate of the clean chunk. What a net predicts (the noise,
the clean chunk or the velocity) becomes that estimate here, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from torch import Tensor

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(noisy chunk ``[B, T, D]``, its level ``[B]``) to the estimated clean chunk ``[B, T, D]``."""
Draw = Callable[[], Tensor]
"""Returns fresh standard normal numbers of the chunk's shape."""


class InformedDenoiser(Protocol):
    """A denoiser that can be told more about the chunk; without that, it is an ordinary one."""

    def __call__(
        self, x: Tensor, level: Tensor, known: Tensor | None = None, feedback: Tensor | None = None
    ) -> Tensor:
        """Estimates the clean chunk.

        Args:
            x: noisy chunks ``[B, T, D]``.
            level: of their noise ``[B]``.
            known: True for the rows of ``x`` that are clean already ``[B, T]``.
            feedback: on an earlier estimate ``[B, T, D]``.
        """


class NoisePath(Protocol):
    """How data and noise mix at a level: ``x = signal * clean + noise * epsilon``."""

    def scales(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the factors ``signal`` and ``noise`` ``[B]`` at ``level [B]``."""

    def rates(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Returns how fast both change along the path ``[B]``: the velocity is the point's change."""


class Prediction(NamedTuple):
    """What a net predicts about a point of a path.

    Attributes:
        target: (path, clean ``[B, T, D]``, noise, level ``[B]``) to what the net has to predict.
        clean: (path, x, level, predicted) to the clean chunk that the prediction means.
    """

    target: Callable[[NoisePath, Tensor, Tensor, Tensor], Tensor]
    clean: Callable[[NoisePath, Tensor, Tensor, Tensor], Tensor]


def mix(factors: tuple[Tensor, Tensor], clean: Tensor, noise: Tensor) -> Tensor:
    """Returns ``factors[0] * clean + factors[1] * noise`` with factors ``[B]`` of chunks ``[B, T, D]``."""
    return factors[0][:, None, None] * clean + factors[1][:, None, None] * noise


def _clean_from_noise(path: NoisePath, x: Tensor, level: Tensor, predicted: Tensor) -> Tensor:
    signal, noise = path.scales(level)
    return mix((1 / signal, -noise / signal), x, predicted)


def _clean_from_velocity(path: NoisePath, x: Tensor, level: Tensor, predicted: Tensor) -> Tensor:
    (signal, noise), (signal_rate, noise_rate) = path.scales(level), path.rates(level)
    determinant = noise * signal_rate - signal * noise_rate
    return mix((-noise_rate / determinant, noise / determinant), x, predicted)


PREDICTIONS: Mapping[str, Prediction] = {
    "noise": Prediction(lambda path, clean, noise, level: noise, _clean_from_noise),
    "clean": Prediction(lambda path, clean, noise, level: clean, lambda path, x, level, predicted: predicted),
    "velocity": Prediction(
        lambda path, clean, noise, level: mix(path.rates(level), clean, noise), _clean_from_velocity
    ),
}
"""By the name that a setting gives. The velocity is that of Salimans and Ho (2022) for diffusion, of Lipman
et al. (2023) for straight paths: in both the derivative of the point along its path."""


def signal_share(path: NoisePath, level: Tensor) -> Tensor:
    """Returns the signal's share of a point's power ``[B]``: ``alpha_bar`` of a diffusion, for any path."""
    signal, noise = (factor.square() for factor in path.scales(level))
    return signal / (signal + noise)
