"""Benchmark suites of ``robopolicy bench SUITE``: one module a suite.

A suite's module has ``run() -> Iterable[Row]``, which measures ours beside a reference in the same run, and a
docstring whose first line says what it measures.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        name: what is measured, letters, digits and underscores; the key in ``summary.json``.
        ours: our figure.
        reference: the peer's or the floor's figure, taken in the same run.
        unit: of both figures, e.g. ``"ms"``.
        compared_with: what the reference is, e.g. ``"plain torch"``.
    """

    name: str
    ours: float
    reference: float
    unit: str = "ms"
    compared_with: str = "reference"

    @property
    def ratio(self) -> float:
        """Ours divided by the reference."""
        return self.ours / self.reference


def suites() -> list[str]:
    """Returns the names of the suites."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
