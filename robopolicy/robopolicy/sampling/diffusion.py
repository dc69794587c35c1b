"""Denoising diffusion: the squared-cosine schedule, DDPM and DDIM sampling with noise prediction."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from robopolicy_datasets.errors import ConfigError

Field = Callable[[Tensor, Tensor], Tensor]
"""A net with its condition bound: (noisy chunk ``[B, T, D]``, noise level ``[B]``) to ``[B, T, D]``."""
Draw = Callable[[], Tensor]
"""Returns fresh standard normal numbers of the chunk's shape."""


def squared_cosine_alphas(levels: int) -> Tensor:
    """Returns the cumulative products ``alpha_bar[k]`` of the schedule of Nichol and Dhariwal (2021, eq. 17).

    Args:
        levels: of noise; the last one is nearly pure noise.
    """

    def remaining(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [
        min(1 - remaining((level + 1) / levels) / remaining(level / levels), 0.999) for level in range(levels)
    ]
    return torch.cumprod(1 - torch.tensor(betas, dtype=torch.float64), dim=0).float()


class DiffusionSampler:
    """Samples by denoising from level ``levels - 1`` down to 0 (noise prediction, clipped to [-1, 1]).

    Args:
        kind: ``ddpm`` (Ho et al. 2020, all levels, fixed small variance) or ``ddim`` (Song et al. 2021,
            eta 0).
        levels: of the training schedule.
        steps: taken by DDIM; DDPM takes all levels.

    Raises:
        ConfigError: an unknown kind or an impossible number of steps.
    """

    def __init__(self, kind: str, levels: int, steps: int) -> None:
        if kind not in ("ddpm", "ddim"):
            raise ConfigError(f"The diffusion sampler is '{kind}'. Allowed: 'ddim', 'ddpm'.")
        if not 1 <= steps <= levels:
            raise ConfigError(
                f"sampling_steps is {steps}; it must lie between 1 and noise_levels = {levels}."
            )
        self.kind = kind
        self.alphas = squared_cosine_alphas(levels)
        stride = levels // steps if kind == "ddim" else 1
        self.levels = list(range(0, levels, stride))[: steps if kind == "ddim" else levels][::-1]

    def corrupt(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """Adds noise: ``sqrt(alpha_bar) clean + sqrt(1 - alpha_bar) noise``; ``level`` is ``[B]`` (int64)."""
        alpha = self.alphas.to(clean.device)[level][:, None, None]
        return alpha.sqrt() * clean + (1 - alpha).sqrt() * noise

    def sample(self, field: Field, noise: Tensor, draw: Draw | None = None) -> Tensor:
        """Denoises.

        Args:
            field: predicts the noise.
            noise: standard normal ``[B, T, D]``.
            draw: makes the noise that DDPM adds; torch's global generator by default.
        """
        draw = draw or (lambda: torch.randn_like(noise))
        x = noise
        for index, level in enumerate(self.levels):
            levels = torch.full((x.shape[0],), level, device=x.device)
            alpha = float(self.alphas[level])
            before = float(self.alphas[self.levels[index + 1]]) if index + 1 < len(self.levels) else 1.0
            predicted = field(x, levels)
            clean = ((x - math.sqrt(1 - alpha) * predicted) / math.sqrt(alpha)).clamp(-1, 1)
            if self.kind == "ddim":
                # the direction is recomputed from the clipped estimate, so that both stay consistent
                direction = (x - math.sqrt(alpha) * clean) / math.sqrt(1 - alpha)
                x = math.sqrt(before) * clean + math.sqrt(1 - before) * direction
            else:
                x = self._ddpm_step(x, clean, alpha, before, draw)
        return x

    @staticmethod
    def _ddpm_step(x: Tensor, clean: Tensor, alpha: float, before: float, draw: Draw) -> Tensor:
        ratio = alpha / before
        mean = (
            math.sqrt(before) * (1 - ratio) / (1 - alpha) * clean
            + math.sqrt(ratio) * (1 - before) / (1 - alpha) * x
        )
        if before == 1.0:
            return mean
        variance = (1 - before) / (1 - alpha) * (1 - ratio)
        return mean + math.sqrt(variance) * draw()
