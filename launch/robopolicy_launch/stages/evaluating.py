"""Evaluation: closed-loop success of a checkpoint over seeds, as it is or under a growing disturbance."""

from __future__ import annotations

import itertools
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.registry import tasks
from robopolicy_launch import console
from robopolicy_launch.settings import registered_name

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
    from robopolicy.checkpoint import load_policy
    from robopolicy.evaluation.closed_loop import evaluate as run_evaluation

    started = time.monotonic()
    policy = load_policy(checkpoint, device=device)
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
            action_steps=action_steps,
            progress=lambda result: progress(next(done), episodes),
        )
    return {**summary, "seconds": time.monotonic() - started}


def evaluate_disturbed(
    checkpoint: Path,
    task: Any,
    disturbance: Any,
    folder: Path,
    *,
    episodes: int,
    first_seed: int,
    batch_size: int = MOST_AT_ONCE,
    workers: int = 1,
    action_steps: int | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Runs the same unseen seeds for every size of a disturbance.

    Args:
        checkpoint: a checkpoint folder, or the run folder of a training.
        task: config of a registered task.
        disturbance: config of a disturbance, with its ``sizes``.
        folder: for ``robustness.csv`` and an ``episodes.csv`` for each size.
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
    from robopolicy.checkpoint import find_checkpoint, load_policy
    from robopolicy.evaluation.robustness import certified_lipschitz, sweep

    started = time.monotonic()
    policy = load_policy(checkpoint, device=device)
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
            action_steps=action_steps,
            lipschitz=certified_lipschitz(find_checkpoint(checkpoint)),
            progress=lambda result: progress(next(done), total),
        )
    figures: dict[str, Any] = {"disturbance_unit": disturbance.unit}
    for row in rows:
        measured = {key: value for key, value in asdict(row).items() if value is not None and key != "size"}
        figures |= {f"{key}_at_{row.size:g}": value for key, value in measured.items()}
    return {**figures, "seconds": time.monotonic() - started}
