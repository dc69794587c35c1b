"""Feature-wise modulation with a proven constant: the gain is bounded, and so are the features."""

from __future__ import annotations

import math

from torch import Tensor, nn

from robopolicy.nets.lipschitz.bounds import product_bound
from robopolicy.nets.lipschitz.module import LipschitzModule
from robopolicy.nets.lipschitz.sequential import folded
from robopolicy_datasets.errors import ConfigError


class BoundedFilm(LipschitzModule):
    """``g tanh(gain(c)) * clip(h, -r, r) + shift(c)``.

    FiLM (Perez et al. 2018) multiplies features by a gain of the condition, and so has no Lipschitz constant
    unless both are bounded.

    Args:
        gain: module with a bound, from conditions to as many numbers as there are features.
        shift: likewise.
        largest_gain: g > 0.
        largest_feature: r > 0; features beyond are clipped.

    Raises:
        ConfigError: a limit is not above 0, or ``gain`` or ``shift`` has no Lipschitz bound.
    """

    def __init__(
        self, gain: nn.Module, shift: nn.Module, largest_gain: float = 1.0, largest_feature: float = 1.0
    ) -> None:
        super().__init__()
        for name, value in (("largest_gain", largest_gain), ("largest_feature", largest_feature)):
            if not (value > 0 and math.isfinite(value)):
                raise ConfigError(f"{name} is {value}; it must be a finite number above 0.")
        self.gain, self.shift = gain, shift
        self.largest_gain, self.largest_feature = largest_gain, largest_feature
        self.lipschitz_bound()  # refuses what has none

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Maps ``[..., features]`` and ``[..., condition]`` to ``[..., features]``."""
        clipped = features.clamp(-self.largest_feature, self.largest_feature)
        return self.largest_gain * self.gain(condition).tanh() * clipped + self.shift(condition)

    def feature_bound(self) -> float:
        """Returns how far the output moves with the features at most, per unit."""
        return self.largest_gain

    def condition_bound(self) -> float:
        """Returns how far the output moves with the condition at most, per unit."""
        return self.largest_gain * self.largest_feature * product_bound(self.gain) + product_bound(self.shift)

    def lipschitz_bound(self) -> float:
        """Returns the bound for features and condition together, as one vector."""
        return math.hypot(self.feature_bound(), self.condition_bound())

    def fold(self) -> BoundedFilm:
        """Returns the same with plain layers inside."""
        return BoundedFilm(
            folded(self.gain), folded(self.shift), self.largest_gain, self.largest_feature
        ).train(False)
