"""Success over the size of a disturbance, beside what a certificate promises."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from robopolicy.evaluation.closed_loop import summarise, write_table
from robopolicy.evaluation.disturbed_policy import Change, DisturbedPolicy
from robopolicy.policies.chunk_policy import ChunkPolicy
from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.registry import load_target
from robopolicy_drivers.runtime.certificate import CERTIFICATE, check_certificate
from robopolicy_sim.rollout import EpisodeResult, rollout

TABLE = "robustness.csv"
KEPT_TOGETHER = 100  # episodes of a size; of fewer, environments would wait more often for the last of them

Keep = Callable[[Mapping[str, Any], Callable[[], Mapping[str, Any]]], Mapping[str, Any]]
"""Returns what a function makes, or what it made before with the same settings; both are plain data."""


@dataclass(frozen=True)
class RobustnessRow:
    """How a policy does under a disturbance of one size.

    Changes of actions are root mean squares over the numbers of a chunk, in the policy's normalized units;
    None where observations are not disturbed.

    Attributes:
        size: of the disturbance, in its own unit.
        success: share of the episodes.
        success_low: Wilson, 95 %.
        success_high: likewise.
        score: mean over the episodes.
        score_low: 95 %.
        score_high: likewise.
        episodes: how many.
        errors: of these, whose simulation failed: they count as failures.
        executed_mean: mean change of the executed actions of a chunk.
        executed_max: largest.
        chunk_max: largest change of a chunk, in the frame that was observed.
        certified: bound on the change of any chunk, for the largest move of a window that there was; None
            where there is no certificate.
        margin: largest ratio of a chunk's change to what is certified for the move of its own window.
    """

    size: float
    success: float
    success_low: float
    success_high: float
    score: float
    score_low: float
    score_high: float
    episodes: int
    errors: int
    executed_mean: float | None = None
    executed_max: float | None = None
    chunk_max: float | None = None
    certified: float | None = None
    margin: float | None = None


def sweep(
    policy: ChunkPolicy,
    task: Any,
    disturbance: Any,
    *,
    seeds: Sequence[int],
    folder: str | Path,
    batch_size: int = 50,
    workers: int = 1,
    lipschitz: float | None = None,
    progress: Callable[[EpisodeResult], None] = lambda result: None,
    keep: Keep = lambda settings, compute: compute(),
) -> list[RobustnessRow]:
    """Evaluates a policy under one disturbance of growing size, always with the same seeds.

    Args:
        policy: what is evaluated.
        task: typed config of the task.
        disturbance: typed config of the disturbance, with its ``sizes``.
        seeds: of the episodes.
        folder: gets ``robustness.csv`` and, in a folder for each size, ``episodes.csv``.
        batch_size: environments that run at the same time.
        workers: processes that step them.
        lipschitz: certified constant of the policy's chunks, as of ``certified_lipschitz``.
        progress: called with each result as soon as it is there.
        keep: may return what some episodes gave before in place of running them again. It is asked with the
            size and the seeds; all else that episodes depend on, ``batch_size`` for their last bits, is the
            caller's to tell apart.

    Raises:
        ConfigError: there are no sizes, one is negative or not finite, two are the same, or the task cannot
            be disturbed so.
        SpecError: the policy observes nothing that could be disturbed so.
    """
    sizes = disturbance.sizes
    if not sizes or not all(math.isfinite(size) and size >= 0 for size in sizes):
        raise ConfigError(f"disturbance.sizes is {list(sizes)}; give at least one size, all 0 or more.")
    if len({f"{size:g}" for size in sizes}) < len(sizes):
        raise ConfigError(f"disturbance.sizes is {list(sizes)}, in which a size occurs twice; give it once.")
    disturb = load_target(disturbance.target)
    # all are built before the first episode, so that what does not fit is told at once
    cells = [(policy, task) if size == 0 else disturb(policy, task, size, disturbance) for size in sizes]
    rows = []
    for size, (disturbed, disturbed_task) in zip(sizes, cells, strict=True):
        run = partial(_run, disturbed, disturbed_task, batch_size, workers, progress)
        results: list[EpisodeResult] = []
        changes: list[Change] = []
        for first in range(0, len(seeds), KEPT_TOGETHER):
            block = [int(seed) for seed in seeds[first : first + KEPT_TOGETHER]]
            figures = keep({"size": size, "seeds": block}, partial(run, block))
            results += [EpisodeResult(**row) for row in figures["episodes"]]
            changes += [Change(*row) for row in figures["changes"]]
        rows.append(_row(policy, size, results, changes, lipschitz))
        write_table(results, Path(folder) / f"size-{size:g}")
        _write_table(rows, Path(folder) / TABLE)
    return rows


def _run(
    policy: Any,
    task: Any,
    batch_size: int,
    workers: int,
    progress: Callable[[EpisodeResult], None],
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Runs one episode a seed; returns the results and all changes of chunks as plain data."""
    changes = policy.changes if isinstance(policy, DisturbedPolicy) else []
    changes.clear()
    results = rollout(policy, task, seeds, batch_size=batch_size, workers=workers, progress=progress)
    return {
        "episodes": [asdict(result) for result in results],
        "changes": [astuple(change) for change in changes],
    }


def certified_lipschitz(checkpoint: Path) -> float | None:
    """Returns how far a chunk can move for each unit that its window is moved; None: nothing is certified.

    Args:
        checkpoint: its folder, with ``certificate.json`` where ``robopolicy certify`` has made one.

    Raises:
        CheckpointError: the certificate is of other files than those beside it.
    """
    check_certificate(checkpoint)
    path = checkpoint / CERTIFICATE
    if not path.is_file():
        return None
    chunk = json.loads(path.read_text(encoding="utf-8"))["lipschitz"]["chunk"]
    return float(chunk["value"]) if chunk["kind"] == "certified" else None


def _row(
    policy: ChunkPolicy,
    size: float,
    results: Sequence[EpisodeResult],
    changes: Sequence[Change],
    lipschitz: float | None,
) -> RobustnessRow:
    figures = summarise(results)
    kept = ("success", "success_low", "success_high", "score", "score_low", "score_high")
    row = {key: figures[key] for key in kept}
    measured = _changes(policy, changes, lipschitz) if changes else {}
    return RobustnessRow(size=size, episodes=len(results), errors=int(figures["errors"]), **row, **measured)


def _changes(policy: ChunkPolicy, changes: Sequence[Change], lipschitz: float | None) -> dict[str, float]:
    rows = policy.config.horizon, policy.action_steps
    chunk, executed = (math.sqrt(count * policy.action.size) for count in rows)
    measured = {
        "executed_mean": float(np.mean([change.executed for change in changes])) / executed,
        "executed_max": max(change.executed for change in changes) / executed,
        "chunk_max": max(change.chunk for change in changes) / chunk,
    }
    if lipschitz is None:
        return measured
    certified = [lipschitz * change.window for change in changes]
    ratios = (change.chunk / bound for change, bound in zip(changes, certified, strict=True) if bound)
    margin = max(ratios, default=0.0)
    return {**measured, "certified": max(certified) / chunk, "margin": margin}


def _write_table(rows: Sequence[RobustnessRow], path: Path) -> None:
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(asdict(rows[0])))
        table.writeheader()
        table.writerows(asdict(row) for row in rows)
