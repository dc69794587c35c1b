"""Evaluation: closed-loop success of a checkpoint over seeds."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

from robopolicy_datasets.errors import ConfigError
from robopolicy_launch import console
from robopolicy_launch.settings import registered_name


def evaluate(
    checkpoint: Path,
    task: Any,
    folder: Path,
    *,
    episodes: int,
    first_seed: int,
    batch_size: int,
    videos: int,
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
        batch_size: episodes that run at the same time.
        videos: of the first episodes.
        action_steps: actions executed of each chunk; None: the policy's own.
        device: torch device.

    Returns:
        success with its interval, score, seconds and more.
    """
    if episodes < 1 or first_seed < 0:
        raise ConfigError(
            f"episodes is {episodes} and first_seed {first_seed}; give at least 1 and at least 0."
        )
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
            videos=videos,
            action_steps=action_steps,
            progress=lambda result: progress(next(done), episodes),
        )
    return {**summary, "seconds": time.monotonic() - started}
