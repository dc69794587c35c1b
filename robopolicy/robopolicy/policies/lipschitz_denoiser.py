"""The estimate of a clean chunk that follows the observation with a proven gain, and the noise as it likes.

What two samplings from one noise have in common costs nothing in a bound on their difference. So the net has
an input beside observation and noisy chunk: a *code*, drawn with the noise from a learned table. It may
choose the mode (left or right of the obstacle) abruptly, since it does not depend on the observation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robopolicy.nets.lipschitz.mlp import LipschitzMlp
from robopolicy.policies.configs import LipschitzFlowConfig
from robopolicy.sampling.sensitivity import StepGain, euler_bounds

_FIRST_CODES = 0.1  # spread of what untrained codes do: all begin at the mean, and part as it is learnt


class LipschitzDenoiser(nn.Module):
    """Estimates clean chunks at the N points that Euler's method visits on the straight path.

    Args:
        config: gives the net's layer and sizes, the steps, the codes and the bounds.
        condition_size: numbers that describe the observation.
        action_size: numbers in one action.

    Raises:
        ConfigError: there is no such layer, or a size or a bound is impossible.
    """

    def __init__(self, config: LipschitzFlowConfig, condition_size: int, action_size: int) -> None:
        super().__init__()
        self.condition_size, self.steps = condition_size, config.sampling_steps
        # the estimate of the first step does not look at the noise, so one of one step has no such input
        self.point_size = config.horizon * action_size if self.steps > 1 else 0
        unit = euler_bounds([StepGain(1.0, config.point_gain)] * self.steps)[-1]
        gain = config.bound / unit
        sizes = (condition_size, self.point_size, config.width)
        budgets = [1.0] * sizes[0] + [config.point_gain / gain] * sizes[1] + [1.0] * sizes[2]
        self.net = LipschitzMlp(
            len(budgets),
            config.horizon * action_size,
            config.width,
            config.depth,
            config.layer,
            input_bounds=budgets,
            output_bounds=gain,
        )
        first_codes = torch.randn(self.steps, config.codes, config.width)
        self.codes = nn.Parameter(_FIRST_CODES / (gain * config.width**0.5) * first_codes)

    def forward(self, point: Tensor, condition: Tensor, code: Tensor, step: Tensor) -> Tensor:
        """Estimates clean chunks.

        Args:
            point: noisy chunks at the time ``step / N``, flat ``[B, chunk_size]``.
            condition: ``[B, condition_size]``.
            code: indices ``[B]``.
            step: from 0 to N - 1 ``[B]``.

        Returns:
            ``[B, chunk_size]``.
        """
        seen = torch.where(step[:, None] > 0, point, 0.0)[:, : self.point_size]
        return self.net(torch.cat([condition, seen, self.codes[step, code]], dim=-1))

    def gains(self, outputs: list[int] | None = None) -> list[StepGain]:
        """Returns the gains of the steps' estimates, from the weights that are used.

        Args:
            outputs: numbers of the chunk that are looked at; None: all.
        """
        observation = self.net.lipschitz_bound(list(range(self.condition_size)), outputs)
        first = StepGain(observation, 0.0)
        if not self.point_size:
            return [first]
        points = list(range(self.condition_size, self.condition_size + self.point_size))
        return [first] + [StepGain(observation, self.net.lipschitz_bound(points, outputs))] * (self.steps - 1)
