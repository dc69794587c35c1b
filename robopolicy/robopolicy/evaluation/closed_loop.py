"""Closed-loop evaluation of a policy on a task: many seeds in batches, success with an interval, videos."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robopolicy.evaluation.statistics import mean_interval, wilson_interval
from robopolicy_datasets.errors import ConfigError
from robopolicy_drivers.interfaces import ChunkPolicy
from robopolicy_sim.rollout import EpisodeResult, rollout
from robopolicy_sim.video import write_video


def evaluate(
    policy: ChunkPolicy,
    task_config: Any,
    *,
    seeds: Sequence[int],
    folder: str | Path | None = None,
    batch_size: int = 50,
    workers: int = 1,
    videos: int = 0,
    progress: Callable[[EpisodeResult], None] | None = None,
) -> dict[str, float]:
    """Runs one episode a seed and summarises them.

    Args:
        policy: what is evaluated.
        task_config: typed config of the task, e.g. ``PickPlaceConfig()``.
        seeds: of the episodes; seeds from 100000 on are for reporting.
        folder: gets ``episodes.csv`` (one row a seed) and ``videos/``; ``None`` writes nothing.
        batch_size: environments that run at the same time.
        workers: processes that step them; 1 steps them here.
        videos: episodes of which a video is written, the first ones.
        progress: called with each result as soon as it is there.

    Returns:
        ``success``, ``success_low``, ``success_high`` (Wilson, 95 %), ``score``, ``score_low``,
        ``score_high`` (mean over seeds and its 95 % interval), ``episodes``, ``errors`` (episodes whose
        simulation failed), ``mean_steps``, ``environment_seconds``, ``policy_seconds``.

    Raises:
        SpecError: policy and task do not fit.
        ConfigError: a setting is out of range, or there are no seeds.
    """
    if videos < 0:
        raise ConfigError(f"videos is {videos}; give 0 or more.")
    folder = None if folder is None else Path(folder)

    def keep(result: EpisodeResult) -> None:
        """Writes the video at once: frames of many episodes would fill the memory."""
        if folder is not None and result.frames:
            outcome = "success" if result.success else "failure"
            write_video(folder / "videos" / f"{result.seed}-{outcome}.mp4", result.frames, 1.0 / policy.dt)
            result.frames.clear()
        if progress is not None:
            progress(result)

    results = rollout(
        policy,
        task_config,
        seeds,
        batch_size=batch_size,
        workers=workers,
        video_seeds=list(seeds)[:videos],
        progress=keep,
    )
    summary = summarise(results)
    if folder is not None:
        write_table(results, folder)
    return summary


def summarise(results: Sequence[EpisodeResult]) -> dict[str, float]:
    """Returns the flat figures of ``evaluate`` for a list of results.

    Raises:
        ConfigError: the list is empty.
    """
    if not results:
        raise ConfigError("There are no episodes to summarise; give at least one seed.")
    successes = sum(result.success for result in results)
    scores = [result.score for result in results]
    low, high = wilson_interval(successes, len(results))
    score_low, score_high = np.clip(mean_interval(scores), 0.0, 1.0)  # scores are shares
    return {
        "success": successes / len(results),
        "success_low": low,
        "success_high": high,
        "score": float(np.mean(scores)),
        "score_low": float(score_low),
        "score_high": float(score_high),
        "episodes": float(len(results)),
        "errors": float(sum(result.error is not None for result in results)),
        "mean_steps": float(np.mean([result.steps for result in results])),
        "environment_seconds": sum(result.environment_seconds for result in results),
        "policy_seconds": sum(result.policy_seconds for result in results),
    }


def write_table(results: Sequence[EpisodeResult], folder: Path) -> None:
    """Writes ``episodes.csv``, one row a seed.

    Args:
        results: of the episodes.
        folder: for the file; made where it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "episodes.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["seed", "success", "score", "steps", "error"])
        for result in results:
            table.writerow(
                [result.seed, int(result.success), f"{result.score:.4f}", result.steps, result.error or ""]
            )
