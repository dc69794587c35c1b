"""Compares two policies on a robot, blind: in pairs of trials, in an order that nobody is told.

Where the robot cannot tell success, you judge each trial by a key, and set up the scene before it; a picture
lays the camera's image over that of the pair's first trial. At the end you learn which was which: success
rates and their difference with 95 % intervals, and how likely a difference like this is by chance.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig

from robopolicy_drivers.runtime.configs import RuntimeConfig
from robopolicy_launch.reports import report
from robopolicy_launch.run_folder import RunFolder
from robopolicy_launch.stages.comparing import compare

GROUPS: dict[str, str | None] = {"robot": "sim"}
POSITIONAL = ("a", "b")


@dataclass
class Settings:
    """Settings of ``robopolicy compare``.

    Attributes:
        a: a checkpoint folder, or the run folder of a training.
        b: the other one.
        pairs: of trials, one of each policy in each.
        first_seed: of the order, the policies' noise and, in simulation, the scenes.
        seconds: longest duration of a trial [s].
        ask: you judge, also where the robot can tell success.
        name: a word for the run folder's name.
        runs: where run folders lie.
        runtime: how the policies' chunks become commands.
        robot: what is driven.
    """

    a: str = MISSING
    b: str = MISSING
    pairs: int = 10
    first_seed: int = 100_000
    seconds: float = 15.0
    ask: bool = False
    name: str = ""
    runs: str = "runs"
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    robot: Any = MISSING


def run(settings: Settings, config: DictConfig) -> int:
    """Compares the policies."""
    from robopolicy.checkpoint import find_checkpoint, load_policy

    checkpoints = [find_checkpoint(Path(given).expanduser()) for given in (settings.a, settings.b)]
    policies = [load_policy(checkpoint, threads=1) for checkpoint in checkpoints]
    with RunFolder.create("compare", root=settings.runs, name=settings.name, config=config) as folder:
        figures = compare(
            policies,
            checkpoints,
            settings.robot,
            folder.path / "comparison",
            pairs=settings.pairs,
            first_seed=settings.first_seed,
            seconds=settings.seconds,
            ask=settings.ask,
            runtime=settings.runtime,
        )
        folder.add_figures(figures)
        report.write(folder, "Comparison")
        folder.finish()
    return 0
