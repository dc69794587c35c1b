"""Measures closed-loop success over unseen seeds.

Writes a per-seed table (evaluation/episodes.csv), videos of the first episodes and report.html. The task
is the one that the checkpoint was trained for, where its run folder says so. Seeds from 100000 are for
reporting, the ones below for tuning.

With disturbance=NAME it is measured over growing sizes of a disturbance, with the same seeds for each:
success, how far actions are moved, and how far a certified policy's can be (evaluation/robustness.csv).
A sweep that was interrupted goes on when the same command is given again: what was finished lies in
RUNS/eval-cells until all is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig

from robopolicy_launch.reports import report
from robopolicy_launch.run_folder import RunFolder
from robopolicy_launch.stages.evaluating import MOST_AT_ONCE, evaluate, evaluate_disturbed
from robopolicy_launch.stages.saved_runs import with_task_of

GROUPS: dict[str, str | None] = {"task": None, "disturbance": None}
POSITIONAL = ("checkpoint",)


@dataclass
class Settings:
    """Settings of ``robopolicy eval``.

    Attributes:
        checkpoint: a checkpoint folder, or the run folder of a training.
        episodes: number of episodes.
        first_seed: seeds are consecutive from here.
        batch_size: episodes that run at the same time, with one network call for all.
        workers: processes that step the environments at the same time; the results are the same.
        action_steps: actions executed of each chunk; empty: the policy's own.
        videos: videos of the first episodes; a sweep over a disturbance makes none.
        device: torch device: cpu or cuda.
        name: a word for the run folder's name.
        runs: where run folders lie.
        task: what is evaluated.
        disturbance: what makes it harder, in steps; none: it is measured once, as it is.
    """

    checkpoint: str = MISSING
    episodes: int = 200
    first_seed: int = 100_000
    batch_size: int = MOST_AT_ONCE
    workers: int = 1
    action_steps: int | None = None
    videos: int = 4
    device: str = "cpu"
    name: str = ""
    runs: str = "runs"
    task: Any = MISSING
    disturbance: Any = None


def complete_arguments(arguments: Sequence[str]) -> list[str]:
    """Adds the checkpoint's task where none is named."""
    return with_task_of(arguments)


def run(settings: Settings, config: DictConfig) -> int:
    """Evaluates the checkpoint."""
    from robopolicy.checkpoint import find_checkpoint

    checkpoint = find_checkpoint(Path(settings.checkpoint).expanduser())
    with RunFolder.create("eval", root=settings.runs, name=settings.name, config=config) as folder:
        measure = _evaluate if settings.disturbance is None else _evaluate_disturbed
        folder.add_figures(measure(settings, checkpoint, folder.path / "evaluation"))
        report.write(folder, "Evaluation")
        folder.finish()
    return 0


def _evaluate(settings: Settings, checkpoint: Path, folder: Path) -> dict[str, Any]:
    return evaluate(
        checkpoint,
        settings.task,
        folder,
        episodes=settings.episodes,
        first_seed=settings.first_seed,
        batch_size=settings.batch_size,
        workers=settings.workers,
        videos=settings.videos,
        action_steps=settings.action_steps,
        device=settings.device,
    )


def _evaluate_disturbed(settings: Settings, checkpoint: Path, folder: Path) -> dict[str, Any]:
    return evaluate_disturbed(
        checkpoint,
        settings.task,
        settings.disturbance,
        folder,
        Path(settings.runs).expanduser() / "eval-cells",
        episodes=settings.episodes,
        first_seed=settings.first_seed,
        batch_size=settings.batch_size,
        workers=settings.workers,
        action_steps=settings.action_steps,
        device=settings.device,
    )
