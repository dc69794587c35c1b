"""Denoising diffusion: the squared-cosine schedule, DDPM and DDIM sampling."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robopolicy.sampling.denoiser import Denoiser, Draw
from robopolicy_datasets.errors import ConfigError

KINDS = ("ddim", "ddpm")


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


class DiffusionPath:
    """The points ``sqrt(alpha_bar) clean + sqrt(1 - alpha_bar) noise`` at the levels of a schedule.

    Args:
        levels: of the schedule.
    """

    def __init__(self, levels: int) -> None:
        self.alphas = squared_cosine_alphas(levels)
        self._copies: dict[torch.device, Tensor] = {}

    def scales(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the factors of data and noise ``[B]`` at ``level [B]`` (int64)."""
        alpha = self.alphas_on(level.device)[level]
        return alpha.sqrt(), (1 - alpha).sqrt()

    def alphas_on(self, device: torch.device) -> Tensor:
        """Returns ``alpha_bar [levels]`` on a device, copied there once: a CUDA graph can hold no copy."""
        if device not in self._copies:
            self._copies[device] = self.alphas.to(device)
        return self._copies[device]

    def rates(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Returns how fast both change with the angle between data and noise ``[B]``."""
        signal, noise = self.scales(level)
        return -noise, signal


class DiffusionSampler:
    """Samples by denoising down to level 0, estimates clipped.

    DDPM (Ho et al. 2020, fixed small variance) is DDIM (Song et al. 2021) with ``eta = 1`` and all levels.

    Args:
        kind: ``ddpm`` or ``ddim``.
        levels: of the training schedule.
        steps: taken by DDIM, evenly over the levels; DDPM takes all of them.
        eta: how much of DDPM's noise DDIM adds on the way, from 0 (none) to 1.
        clip: estimates lie between minus this and this.

    Raises:
        ConfigError: an unknown kind, an impossible number of steps or an impossible ``eta``.
    """

    def __init__(self, kind: str, levels: int, steps: int, eta: float = 0.0, clip: float = 1.0) -> None:
        if kind not in KINDS:
            raise ConfigError(f"The diffusion sampler is '{kind}'. Allowed: 'ddim', 'ddpm'.")
        if not 1 <= steps <= levels:
            raise ConfigError(
                f"sampling_steps is {steps}; it must lie between 1 and noise_levels = {levels}."
            )
        if not 0 <= eta <= 1:
            raise ConfigError(f"eta is {eta}; it must lie between 0 (no noise is added) and 1 (as in DDPM).")
        self.kind = kind
        self.path = DiffusionPath(levels)
        self.eta = 1.0 if kind == "ddpm" else eta
        self.clip = clip
        steps = levels if kind == "ddpm" else steps
        self._stride = round(levels / steps)
        # evenly over all levels: were a remainder left out at the noisy end, pure noise would pass for less
        self.levels = [levels * step // steps for step in reversed(range(steps))]
        self._alphas = [*self.path.alphas[self.levels].tolist(), 1.0]

    @property
    def evaluations(self) -> int:
        """How often a sample asks the denoiser."""
        return len(self.levels)

    def before(self, level: Tensor) -> Tensor:
        """Returns the levels about one step before ``level [B]``, the noisiest at most."""
        return (level + self._stride).clamp_max(len(self.path.alphas) - 1)

    def clipped(self, clean: Tensor) -> Tensor:
        """Returns an estimate within the clip."""
        return clean.clamp(-self.clip, self.clip)

    def sample(self, denoiser: Denoiser, noise: Tensor, draw: Draw | None = None) -> Tensor:
        """Denoises.

        Args:
            denoiser: estimates the clean chunk.
            noise: standard normal ``[B, T, D]``.
            draw: makes the noise that is added on the way; torch's global generator by default.
        """
        draw = draw or (lambda: torch.randn_like(noise))
        x = noise
        for index, level in enumerate(self.levels):
            levels = torch.full((x.shape[0],), level, device=x.device)
            clean = self.clipped(denoiser(x, levels))
            alpha, before = self._alphas[index : index + 2]
            variance = self.eta**2 * (1 - before) / (1 - alpha) * (1 - alpha / before)
            # the direction is recomputed from the clipped estimate, so that both stay consistent
            scale = math.sqrt((1 - before - variance) / (1 - alpha))
            x = scale * x + (math.sqrt(before) - scale * math.sqrt(alpha)) * clean
            if variance > 0:
                x = x + math.sqrt(variance) * draw()
        return x
