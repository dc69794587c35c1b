"""Repair: a new store without what the checks report as errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.doctor import time_checks
from robopolicy_datasets.doctor.copying import EpisodeCopy
from robopolicy_datasets.doctor.edit import copy_store
from robopolicy_datasets.doctor.findings import Finding, Severity, counted
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.store.layout import TIME_KEY

_CUT = (time_checks.DUPLICATE, time_checks.BACKWARD)  # every other error costs the episode


def repair_store(
    store: DemoStore,
    target: str | Path,
    findings: Sequence[Finding],
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Writes a new store without the faults.

    Steps stored twice are dropped, and of an episode whose time runs back the longest part in order is kept.
    Any other error in an episode leaves it out. Unfinished steps are left out by any copy.

    Args:
        store: the source.
        target: the new store; must not exist.
        findings: of ``check_store``; those that are no errors are left alone.
        progress: called with (episodes done, episodes in all).

    Returns:
        What was done, one line each.

    Raises:
        StoreError: no episode would be left, or as for ``copy_episodes``.
    """
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    lost: dict[int, list[str]] = {}
    for finding in errors:
        if finding.episode is not None and finding.code not in _CUT:
            lost.setdefault(finding.episode, []).append(f"{finding.code} {finding.key}".strip())
    cut = {finding.episode for finding in errors if finding.code in _CUT} - set(lost)
    actions = [f"episode {number}: left out ({', '.join(lost[number])})" for number in sorted(lost)]
    plan = []
    for number in range(len(store)):
        if number in lost:
            continue
        copy = EpisodeCopy(store, number)
        if number in cut:
            time_ns = store.rows(TIME_KEY, *copy.bounds)
            steps = ordered_steps(time_ns)
            copy = EpisodeCopy(store, number, steps)
            gone = counted(len(time_ns) - len(steps), "step")
            actions.append(f"episode {number}: {gone} of {len(time_ns)} cut, so that time increases")
        plan.append(copy)
    if store.unfinished_steps > 0:
        actions.append(f"{counted(store.unfinished_steps, 'step')} of an unfinished episode left out")
    copy_store(store, plan, target, "repaired", progress)
    return actions


def ordered_steps(time_ns: NDArray[np.int64]) -> NDArray[np.intp]:
    """Returns the steps of the longest part in which time ``[T]`` increases, without repeated times."""
    once = np.flatnonzero(np.diff(time_ns, prepend=time_ns[0] - 1) != 0)
    parts = np.split(once, np.flatnonzero(np.diff(time_ns[once]) < 0) + 1)
    return max(parts, key=len)
