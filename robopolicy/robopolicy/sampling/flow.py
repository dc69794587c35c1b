"""Flow matching along straight paths: ``x_t = (1 - t) noise + t data``, the net predicting the data."""

from __future__ import annotations

import torch
from torch import Tensor

from robopolicy.sampling.diffusion import Field
from robopolicy_datasets.errors import ConfigError


def shrink(x: Tensor, time: Tensor) -> Tensor:
    """Returns the mean of the data given ``x`` at ``time``, as if data and noise were unit normal.

    A net that is fed this in place of ``x`` sees nothing where there is nothing to see: near t = 0 the
    noise would fill its width and drown the condition.

    Args:
        x: points on the path ``[B, T, D]``.
        time: ``[B]``.
    """
    time = time[:, None, None]
    return time / (time.square() + (1 - time).square()) * x


class FlowSampler:
    """Integrates the learned velocity from noise (t = 0) to data (t = 1) (Lipman et al. 2023).

    Args:
        kind: ``euler`` or ``heun``.
        steps: of the integration, evenly spaced.

    Raises:
        ConfigError: an unknown kind or fewer than one step.
    """

    def __init__(self, kind: str, steps: int) -> None:
        if kind not in ("euler", "heun"):
            raise ConfigError(f"The flow sampler is '{kind}'. Allowed: 'euler', 'heun'.")
        if steps < 1:
            raise ConfigError(f"sampling_steps is {steps}; it must be at least 1.")
        self.kind = kind
        self.steps = steps
        self.levels = [step / steps for step in range(steps)]

    @staticmethod
    def corrupt(clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """Returns the point at ``time [B]`` on the straight path from noise to data ``[B, T, D]``."""
        time = time[:, None, None]
        return (1 - time) * noise + time * clean

    def sample(self, field: Field, noise: Tensor) -> Tensor:
        """Integrates ``velocity = (clean - x) / (1 - t)`` from ``noise`` ``[B, T, D]``.

        Heun's last step is Euler's: at t = 1 the velocity is not defined.

        Args:
            field: predicts the clean chunk.
            noise: standard normal.
        """

        def velocity(x: Tensor, time: float) -> Tensor:
            return (field(x, torch.full((x.shape[0],), time, device=x.device)) - x) / (1 - time)

        x = noise
        size = 1.0 / self.steps
        for step, time in enumerate(self.levels):
            slope = velocity(x, time)
            if self.kind == "heun" and step < self.steps - 1:
                slope = (slope + velocity(x + size * slope, self.levels[step + 1])) / 2
            x = x + size * slope
        return x
