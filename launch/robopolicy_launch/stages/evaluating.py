"""Evaluation: closed-loop success of a checkpoint over seeds, as it is or under a growing disturbance."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import robopolicy
from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.registry import tasks
from robopolicy_drivers.runtime.certificate import policy_sums
from robopolicy_launch import console
from robopolicy_launch.cells import Cells
from robopolicy_launch.settings import registered_name

if TYPE_CHECKING:
    from robopolicy.policies.chunk_policy import ChunkPolicy

MOST_AT_ONCE = 50  # environments; more make no call of the net faster


def check_seeds(episodes: int, first_seed: int, videos: int = 0) -> None:
    """Refuses numbers that are out of range.

    Raises:
        ConfigError: there is no episode, or a number is negative.
    """
    if episodes < 1 or first_seed < 0 or videos < 0:
        raise ConfigError(
            f"{episodes} episodes from seed {first_seed} with {videos} videos were asked for; give at least "
            "1 episode, and no negative numbers."
        )


def check_runs_here(task: Any, *, videos: int) -> None:
    """Begins one episode of the task, so that what is missing shows before hours of training.

    Raises:
        MissingExtraError: an extra that the task or its videos need is not installed.
        SimulationError: the task cannot be drawn here.
    """
    from robopolicy_sim.video import require_encoder

    environment = tasks.build(registered_name("task", task), task)
    try:
        environment.reset(seed=0)
    finally:
        environment.close()
    if videos:
        require_encoder()


def evaluate(
    checkpoint: Path,
    task: Any,
    folder: Path,
    *,
    episodes: int,
    first_seed: int,
    videos: int,
    batch_size: int = MOST_AT_ONCE,
    workers: int = 1,
    action_steps: int | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Runs episodes of unseen seeds.

    Args:
        checkpoint: a checkpoint folder, or the run folder of a training.
        task: config of a registered task.
        folder: for ``episodes.csv``, videos and plots.
        episodes: how many.
        first_seed: seeds are consecutive from here.
        videos: of the first episodes.
        batch_size: episodes that run at the same time.
        workers: processes that step them.
        action_steps: actions executed of each chunk; None: the policy's own.
        device: torch device.

    Returns:
        success with its interval, score, seconds and more.
    """
    check_seeds(episodes, first_seed, videos)
    from robopolicy.evaluation.closed_loop import evaluate as run_evaluation

    started = time.monotonic()
    policy = _load(checkpoint, device, action_steps)
    done = itertools.count(1)
    with console.Progress(f"Evaluating on '{registered_name('task', task)}'", episodes) as progress:
        summary = run_evaluation(
            policy,
            task,
            seeds=range(first_seed, first_seed + episodes),
            folder=folder,
            batch_size=batch_size,
            workers=workers,
            videos=videos,
            progress=lambda result: progress(next(done), episodes),
        )
    return {**summary, "seconds": time.monotonic() - started}


def evaluate_disturbed(
    checkpoint: Path,
    task: Any,
    disturbance: Any,
    folder: Path,
    cells: Path,
    *,
    episodes: int,
    first_seed: int,
    batch_size: int = MOST_AT_ONCE,
    workers: int = 1,
    action_steps: int | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Runs the same unseen seeds for every size of a disturbance.

    What was finished of a sweep that was interrupted is taken up again, if nothing that it depends on has
    changed: the checkpoint's files, the settings, the version of this package.

    Args:
        checkpoint: a checkpoint folder, or the run folder of a training.
        task: config of a registered task.
        disturbance: config of a disturbance, with its ``sizes``.
        folder: for ``robustness.csv`` and an ``episodes.csv`` for each size.
        cells: a folder that keeps what is finished until all is.
        episodes: how many for each size.
        first_seed: seeds are consecutive from here.
        batch_size: episodes that run at the same time.
        workers: processes that step them.
        action_steps: actions executed of each chunk; None: the policy's own.
        device: torch device.

    Returns:
        ``<figure>_at_<size>`` for each size, and ``seconds``.
    """
    check_seeds(episodes, first_seed)
    from robopolicy.checkpoint import find_checkpoint
    from robopolicy.evaluation.robustness import certified_lipschitz, sweep

    started = time.monotonic()
    found = find_checkpoint(checkpoint)
    common = {
        "version": robopolicy.__version__,
        "checkpoint": policy_sums(found),
        "task": [task.target, asdict(task)],
        "disturbance": [disturbance.target, {**asdict(disturbance), "sizes": None}],
        "batch_size": batch_size,
        "action_steps": action_steps,
        "device": device,
    }
    kept = Cells(cells, common)
    policy = _load(found, device, action_steps)
    done, total = itertools.count(1), episodes * len(disturbance.sizes)
    with console.Progress(f"Disturbing on '{registered_name('task', task)}'", total) as progress:
        rows = sweep(
            policy,
            task,
            disturbance,
            seeds=range(first_seed, first_seed + episodes),
            folder=folder,
            batch_size=batch_size,
            workers=workers,
            lipschitz=certified_lipschitz(found),
            progress=lambda result: progress(next(done), total),
            keep=partial(_keep, kept, lambda: progress(next(done), total)),
        )
    kept.forget()  # the run folder has it all
    figures: dict[str, Any] = {"disturbance_unit": disturbance.unit}
    for row in rows:
        measured = {key: value for key, value in asdict(row).items() if value is not None and key != "size"}
        figures |= {f"{key}_at_{row.size:g}": value for key, value in measured.items()}
    return {**figures, "seconds": time.monotonic() - started}


def _keep(
    cells: Cells,
    step: Callable[[], None],
    settings: Mapping[str, Any],
    compute: Callable[[], Mapping[str, Any]],
) -> dict[str, Any]:
    """Returns a cell's figures, and tells of those that were there; ``step`` counts the episodes of these."""
    before = cells.taken
    figures = cells(settings, compute)
    if cells.taken > before:
        seeds = settings["seeds"]
        what = f"size {settings['size']:g}, seeds {seeds[0]} to {seeds[-1]}"
        console.line(f"  Taken up from an interrupted run ({cells.folder}): {what}")
        for _ in seeds:
            step()
    return figures


def _load(checkpoint: Path, device: str, action_steps: int | None) -> ChunkPolicy:
    """Loads a policy that executes ``action_steps`` of each chunk; None: its own number."""
    from robopolicy.checkpoint import load_policy

    policy = load_policy(checkpoint, device=device)
    if action_steps is not None:
        policy.config.action_steps = action_steps
    return policy
