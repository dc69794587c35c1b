"""``certificate.json``: what is proved, estimated and measured of a policy, and of which files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from robopolicy.certify.finding import Finding, weakest
from robopolicy.certify.quantities import ActionQuantity, ObservationQuantity
from robopolicy.certify.sensitivity import KINDS
from robopolicy.certify.theorems import observation_radius
from robopolicy_datasets.errors import RobopolicyError
from robopolicy_drivers.runtime.certificate import CERTIFICATE

SCHEMA = 1
SLACK = 1e-3  # relative, of a measurement above its bound: measurements are made in float32


@dataclass(frozen=True)
class Movement:
    """How far one action quantity moves when the normalized window moves by 1.

    Attributes:
        quantity: what moves.
        tolerance: how far it may, in its unit.
        bound: of its represented numbers times their scale; infinite where there is none.
        measured: the largest that was found.
    """

    quantity: ActionQuantity
    tolerance: float
    bound: Finding
    measured: Finding

    @property
    def radius(self) -> Finding:
        """How far the normalized window may move within the tolerance.

        Of a rotation it is estimated: how its predicted rows can shrink elsewhere is not known.
        """
        radius = observation_radius(self.bound, self.quantity.represented(self.tolerance))
        if self.quantity.singular_value is None:
            return radius
        rows = "Predicted rotation rows are nowhere closer to parallel than at the windows of the search."
        kind = max(radius.kind, "estimated", key=KINDS.index)
        return replace(radius, kind=kind, assumption=f"{rows} {radius.assumption}")


@dataclass(frozen=True)
class Certificate:
    """A policy's certificate.

    Attributes:
        policy: the name under which it is registered.
        chunk: Lipschitz constant of the chunk in the window, both normalized; infinite where there is none.
        measured: the largest slope that was found.
        noise: of the chunk in the noise; None where nothing is known or none is drawn.
        movements: one for each action quantity.
        observations: what the policy observes.
        findings: the theorems and what goes into them, by name.
        steepness: norms of the Jacobian at the windows of the search.
        notes: what a reader must know.

    Raises:
        RobopolicyError: a measurement is above its bound: one of them is wrong.
    """

    policy: str
    chunk: Finding
    measured: Finding
    noise: Finding | None
    movements: Sequence[Movement]
    observations: Sequence[ObservationQuantity]
    findings: Mapping[str, Finding]
    steepness: Sequence[float]
    notes: Sequence[str] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        pairs = [("the chunk", self.chunk, self.measured)]
        pairs += [(one.quantity.name, one.bound, one.measured) for one in self.movements]
        for name, bound, measured in pairs:
            if measured.value > bound.value * (1 + SLACK):
                raise RobopolicyError(
                    f"The policy '{self.policy}' moves {name} by {measured.value:.6g}, above its certified "
                    f"bound {bound.value:.6g}. Its sensitivity() is wrong: it must be of the weights in use. "
                    "No certificate was made."
                )

    @property
    def tightness(self) -> float:
        """The measured slope divided by the bound; 0 where there is none, 1 where both are 0."""
        return self.measured.value / self.chunk.value if self.chunk.value else 1.0

    @property
    def tightest(self) -> Movement:
        """The action that the window's movement takes to its tolerance first."""
        return min(self.movements, key=lambda movement: movement.radius.value)

    def radii(self) -> list[tuple[ObservationQuantity, Finding]]:
        """Returns how wrong each observed quantity may be, in its unit, if all others are right.

        They promise that every action stays within its tolerance, so the weakest of these decides the kind.
        Several errors at once are covered as long as the squares of their shares of these sum up to 1.
        """
        radius = replace(self.tightest.radius, kind=weakest(*(one.radius for one in self.movements)))
        return [
            (quantity, replace(radius, value=radius.value / quantity.gain)) for quantity in self.observations
        ]

    @property
    def figures(self) -> dict[str, float]:
        """How steep the policy is at windows that occur: a monitor that needs no bound."""
        median, high, highest = np.quantile(self.steepness, [0.5, 0.95, 1.0]).tolist()
        return {"jacobian_median": median, "jacobian_95": high, "jacobian_max": highest}

    def to_json(self) -> dict[str, Any]:
        """Returns it as plain data."""
        return {
            "schema": SCHEMA,
            "policy": self.policy,
            "input": "l2 of the normalized, represented observation window",
            "output": "l2 of the normalized, represented action chunk, the noise being the same",
            "lipschitz": {
                "chunk": self.chunk.to_json(),
                "measured": self.measured.to_json(),
                "tightness": self.tightness,
                "noise": self.noise and self.noise.to_json(),
            },
            "actions": [
                {
                    "name": one.quantity.name,
                    "unit": one.quantity.unit,
                    "tolerance": one.tolerance,
                    "singular_value": one.quantity.singular_value,
                    "bound": one.bound.to_json(),
                    "measured": one.measured.to_json(),
                    "window_radius": one.radius.to_json(),
                }
                for one in self.movements
            ],
            "observations": [
                {"name": quantity.name, "unit": quantity.unit, "radius": radius.to_json()}
                for quantity, radius in self.radii()
            ],
            "findings": {name: finding.to_json() for name, finding in self.findings.items()},
            "figures": self.figures,
            "notes": list(self.notes),
        }


def write_certificate(certificate: Certificate, checkpoint: Path, sums: Mapping[str, str]) -> Path:
    """Writes ``certificate.json`` beside the files that it is of.

    Args:
        certificate: what to write.
        checkpoint: the checkpoint's folder.
        sums: of the files, from before the policy was loaded; see ``robopolicy_drivers.runtime.certificate``.
    """
    path = checkpoint / CERTIFICATE
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(
        json.dumps({**certificate.to_json(), "sha256": dict(sums)}, indent=2) + "\n", encoding="utf-8"
    )
    os.replace(fresh, path)
    return path
