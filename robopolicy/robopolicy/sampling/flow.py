"""Flow matching along straight paths from noise to data."""

from __future__ import annotations

import torch
from torch import Tensor

from robopolicy.sampling.denoiser import Denoiser, Draw
from robopolicy_datasets.errors import ConfigError

KINDS = ("euler", "heun")


class StraightPath:
    """The points ``(1 - t) noise + t clean``; a level is the time ``t`` in [0, 1]."""

    def scales(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the factors of data and noise ``[B]`` at the times ``level [B]``."""
        return level, 1 - level

    def rates(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Returns how fast both change in time ``[B]``."""
        ones = torch.ones_like(level)
        return ones, -ones


def shrink(x: Tensor, time: Tensor) -> Tensor:
    """Returns the mean of the data given ``x`` at ``time``, as if data and noise were unit normal.

    A net that is fed this in place of ``x`` sees nothing where there is nothing to see: near t = 0 the
    noise would fill its width and drown the condition. At t = 1 it is ``x``.

    Args:
        x: points on the path ``[B, T, D]``.
        time: ``[B]``.
    """
    time = time[:, None, None]
    return time / (time.square() + (1 - time).square()) * x


class FlowSampler:
    """Integrates the learned velocity from noise (t = 0) to data (t = 1) (Lipman et al. 2023).

    One step of Euler is the estimate itself.

    Args:
        kind: ``euler`` or ``heun``.
        steps: of the integration, evenly spaced.

    Raises:
        ConfigError: an unknown kind or fewer than one step.
    """

    def __init__(self, kind: str, steps: int) -> None:
        if kind not in KINDS:
            raise ConfigError(f"The flow sampler is '{kind}'. Allowed: 'euler', 'heun'.")
        if steps < 1:
            raise ConfigError(f"sampling_steps is {steps}; it must be at least 1.")
        self.kind = kind
        self.steps = steps
        self.path = StraightPath()
        self.levels = [step / steps for step in range(steps)]

    @property
    def evaluations(self) -> int:
        """How often a sample asks the denoiser."""
        return self.steps if self.kind == "euler" else 2 * self.steps - 1

    def before(self, level: Tensor) -> Tensor:
        """Returns the times one step before ``level [B]``, 0 at the least."""
        return (level - 1 / self.steps).clamp_min(0)

    def sample(self, denoiser: Denoiser, noise: Tensor, draw: Draw | None = None) -> Tensor:
        """Integrates ``velocity = (clean - x) / (1 - t)`` from ``noise`` ``[B, T, D]``.

        Heun's last step is Euler's: at t = 1 the velocity is not defined.

        Args:
            denoiser: estimates the clean chunk.
            noise: standard normal.
            draw: not used: no noise is added on the way.
        """

        def velocity(x: Tensor, time: float) -> Tensor:
            return (denoiser(x, torch.full((x.shape[0],), time, device=x.device)) - x) / (1 - time)

        x = noise
        size = 1.0 / self.steps
        for step, time in enumerate(self.levels):
            slope = velocity(x, time)
            if self.kind == "heun" and step < self.steps - 1:
                slope = (slope + velocity(x + size * slope, self.levels[step + 1])) / 2
            x = x + size * slope
        return x
