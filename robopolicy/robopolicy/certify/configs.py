"""Settings of a certificate. Imports no torch, so that the command can show and check them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from robopolicy_datasets.errors import ConfigError


@dataclass
class CertificateConfig:
    """What a certificate is asked for.

    Attributes:
        empirical: write a certificate without upper bounds where the policy has none.
        points: windows at which the policy's steepness is measured.
        seed: of windows, noise and searches.
        tolerance: how far an action may move, as a share of its scale in the normalizer; of rotations [rad].
        tolerances: the same in real units, by unit, e.g. ``{m: 0.01, rad: 0.05}``.
        disturbance: size of an observation error, as the l2 length of the change of the normalized window.
        expert_lipschitz: of the expert, in normalized numbers; estimated from the data where it is not given.
        contraction: of the expert's closed loop from one inference to the next, in a metric of the
            normalized window; estimated from the data, with ``input_gain``, where it is not given.
        input_gain: how far the next window moves for one unit of the normalized executed actions.
        cost_state: how much the cost of a step changes at most with the normalized window.
        cost_action: how much it changes with the normalized actions.
        discount: of the cost, from one inference to the next.

    Raises:
        ConfigError: a number is out of range, or of contraction and input gain only one is given.
    """

    empirical: bool = False
    points: int = 256
    seed: int = 0
    tolerance: float = 0.05
    tolerances: dict[str, float] = field(default_factory=dict)
    disturbance: float = 0.1
    expert_lipschitz: float | None = None
    contraction: float | None = None
    input_gain: float | None = None
    cost_state: float = 1.0
    cost_action: float = 1.0
    discount: float = 0.95

    def __post_init__(self) -> None:
        tolerances = {f"tolerances.{unit}": value for unit, value in self.tolerances.items()}
        for name, value in {"points": self.points, "tolerance": self.tolerance, **tolerances}.items():
            if not 0 < value < math.inf:
                raise ConfigError(f"certificate.{name} is {value}; it must be a finite number above 0.")
        sizes = ("disturbance", "expert_lipschitz", "contraction", "input_gain", "cost_state", "cost_action")
        for name in sizes:
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(f"certificate.{name} is {value}; it must be finite and not negative.")
        if not 0 <= self.discount < 1:
            raise ConfigError(f"certificate.discount is {self.discount}; it must lie in [0, 1).")
        if (self.contraction is None) != (self.input_gain is None):
            raise ConfigError(
                "certificate.contraction and certificate.input_gain belong together; give both."
            )
