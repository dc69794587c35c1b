"""``Finding``: a number, how it is known, and what has to hold for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

from robopolicy.certify.sensitivity import KINDS
from robopolicy_datasets.errors import ConfigError, unknown_name


@dataclass(frozen=True)
class Finding:
    """One number of a certificate.

    Attributes:
        value: the number; infinite where there is no bound.
        kind: ``certified``, ``estimated`` or ``empirical``.
        assumption: in one sentence, where it comes from and what has to hold.
        vacuous: whether it says no more than was clear without it.

    Raises:
        ConfigError: the value is negative or no number, or the kind is unknown.
    """

    value: float
    kind: str
    assumption: str
    vacuous: bool = False

    def __post_init__(self) -> None:
        if not self.value >= 0:
            raise ConfigError(f"A bound is {self.value}; it must be a number that is not negative.")
        if self.kind not in KINDS:
            raise unknown_name("kind of finding", self.kind, KINDS)

    def to_json(self) -> dict[str, Any]:
        """Returns it as plain data; an infinite value is null."""
        value = self.value if math.isfinite(self.value) else None
        return {
            "value": value,
            "kind": self.kind,
            "assumption": self.assumption,
            "vacuous": self.vacuous,
        }


class Known(Protocol):
    """What is of some kind."""

    @property
    def kind(self) -> str:
        """``certified``, ``estimated`` or ``empirical``."""


def weakest(*findings: Known) -> str:
    """Returns the kind of what is derived from all of these: that of the one which is known worst."""
    return max((finding.kind for finding in findings), key=KINDS.index)
