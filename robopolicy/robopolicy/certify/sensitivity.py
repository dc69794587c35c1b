"""``Sensitivity``: how far a policy's action chunk can move when its observation does."""

from __future__ import annotations

import math
from dataclasses import dataclass

from robopolicy_datasets.errors import ConfigError, unknown_name

KINDS = ("certified", "estimated", "empirical")
"""Proved from the weights, or with constants of a model or of roll-outs, or measured at some points only."""


@dataclass(frozen=True)
class Sensitivity:
    """Lipschitz constants of a policy, in its normalized and represented numbers.

    A policy that can be certified has the method ``sensitivity() -> Sensitivity``; others have none.

    Attributes:
        chunk: of the map from the observation window ``[To * features]`` to the chunk ``[Tp * D]``, both l2,
            the noise being the same.
        per_action: of the map from that window to each of the D represented action numbers, l2 over the Tp
            rows of the chunk.
        noise: of the map from the noise to the chunk, l2; None where the policy draws none.
        kind: ``certified``, ``estimated`` or ``empirical``.
        method: in one sentence, where the constants come from.

    Raises:
        ConfigError: a constant is negative or not finite, or the kind is unknown.
    """

    chunk: float
    per_action: tuple[float, ...]
    noise: float | None
    kind: str
    method: str

    def __post_init__(self) -> None:
        constants = (self.chunk, *self.per_action, *(() if self.noise is None else (self.noise,)))
        if not self.per_action or not all(math.isfinite(value) and value >= 0 for value in constants):
            raise ConfigError(
                f"The sensitivities {constants} must be finite and not negative, with one or more of actions."
            )
        if self.kind not in KINDS:
            raise unknown_name("kind of sensitivity", self.kind, KINDS)
