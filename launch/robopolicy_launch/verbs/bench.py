"""Measures speed beside a reference in the same run.

Prints a table with our figure, the reference's and the ratio; summary.json holds the ratios under flat keys.
The suites are the modules of robopolicy_launch.benchmarks.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from omegaconf import MISSING, DictConfig

from robopolicy_datasets.errors import unknown_name
from robopolicy_launch import benchmarks, console
from robopolicy_launch.run_folder import RunFolder

GROUPS: dict[str, str] = {}
POSITIONAL = ("suite",)


@dataclass
class Settings:
    """Settings of ``robopolicy bench``.

    Attributes:
        suite: what to measure; the names of the suites.
        runs: where run folders lie.
    """

    suite: str = MISSING
    runs: str = "runs"

    def __post_init__(self) -> None:
        if self.suite not in benchmarks.suites():
            raise unknown_name("suite", self.suite, benchmarks.suites())


def run(settings: Settings, config: DictConfig) -> int:
    """Runs one suite and prints its table."""
    module = importlib.import_module(f"{benchmarks.__name__}.{settings.suite}")
    with RunFolder.create("bench", root=settings.runs, name=settings.suite, config=config) as folder:
        console.line(f"Measuring '{settings.suite}' ...")
        rows = list(module.run())
        console.table(
            [(row.name, row.ours, row.reference, row.unit, row.ratio, row.compared_with) for row in rows],
            header=("name", "ours", "reference", "unit", "ratio", "compared with"),
        )
        figures: dict[str, float] = {}
        for row in rows:
            figures[f"{row.name}_ratio"] = row.ratio
            figures[f"{row.name}_{row.unit}"] = row.ours
            figures[f"{row.name}_reference_{row.unit}"] = row.reference
        folder.add_figures(figures)
        folder.finish()
    return 0
