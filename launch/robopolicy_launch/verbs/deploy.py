"""Runs a policy on a robot through its driver.

The robot runs in its own process at its own rate; the policy thinks in a thread of its own and is executed
chunk by chunk. A checkpoint that does not fit the robot is refused before anything moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig

from robopolicy_launch.reports import report
from robopolicy_launch.run_folder import RunFolder
from robopolicy_launch.stages.deploying import deploy

GROUPS: dict[str, str | None] = {"robot": "sim"}
POSITIONAL = ("checkpoint",)


@dataclass
class Settings:
    """Settings of ``robopolicy deploy``.

    Attributes:
        checkpoint: a checkpoint folder, or the run folder of a training.
        episodes: number of episodes.
        first_seed: of the policy's noise and, in simulation, of the scenes.
        seconds: longest duration of an episode [s].
        videos: videos of the first episodes.
        name: a word for the run folder's name.
        runs: where run folders lie.
        robot: what is driven.
    """

    checkpoint: str = MISSING
    episodes: int = 10
    first_seed: int = 100_000
    seconds: float = 15.0
    videos: int = 3
    name: str = ""
    runs: str = "runs"
    robot: Any = MISSING


def run(settings: Settings, config: DictConfig) -> int:
    """Deploys the checkpoint."""
    from robopolicy.checkpoint import find_checkpoint

    checkpoint = find_checkpoint(Path(settings.checkpoint).expanduser())
    with RunFolder.create("deploy", root=settings.runs, name=settings.name, config=config) as folder:
        figures = deploy(
            checkpoint,
            settings.robot,
            folder.path / "deployment",
            episodes=settings.episodes,
            first_seed=settings.first_seed,
            seconds=settings.seconds,
            videos=settings.videos,
        )
        folder.add_figures(figures)
        report.write(folder, "Deployment")
        folder.finish()
    return 0
