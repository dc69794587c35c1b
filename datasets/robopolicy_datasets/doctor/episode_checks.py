"""Checks of episodes as wholes: unreadable, unfinished, of unusual length."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from robopolicy_datasets.doctor.evidence import Evidence
from robopolicy_datasets.doctor.findings import Finding, Severity
from robopolicy_datasets.doctor.limits import Limits

_MIN_EPISODES = 5  # fewer do not tell what is usual


def unreadable(evidence: Evidence, limits: Limits) -> Iterator[Finding]:
    """Reports the episodes whose bytes are damaged."""
    for episode, reason in sorted(evidence.unreadable.items()):
        message = f"{reason} Without a copy, `robopolicy data repair` leaves the episode out."
        yield Finding("unreadable", Severity.ERROR, message, episode)


def unfinished(evidence: Evidence, limits: Limits) -> Iterator[Finding]:
    """Reports steps after the last episode, which harm nobody."""
    if evidence.unfinished_steps > 0:
        message = (
            f"{evidence.unfinished_steps} steps after the last episode belong to one that was never "
            "finished: its writer was killed. They are never read, and the next recording into this store "
            "overwrites them. `robopolicy data repair` makes a store without them."
        )
        yield Finding("unfinished", Severity.WARNING, message)


def lengths(evidence: Evidence, limits: Limits) -> Iterator[Finding]:
    """Finds episodes far shorter or longer than the others."""
    if len(evidence.lengths) < _MIN_EPISODES:
        return
    logs = np.log(evidence.lengths)
    median = np.median(logs)
    deviation = 1.4826 * np.median(np.abs(logs - median))
    allowed = max(np.log(limits.length_factor), limits.length_deviations * deviation)
    for episode in np.flatnonzero(np.abs(logs - median) > allowed):
        steps = int(evidence.lengths[episode])
        short = logs[episode] < median
        word = "short: was it aborted?" if short else "long: does it hold several attempts?"
        message = (
            f"{steps} steps, while the median is {np.exp(median):.0f}; unusually {word} "
            "Look at it with `robopolicy data view`."
        )
        severity = Severity.WARNING if short else Severity.NOTE
        yield Finding("length_outlier", severity, message, int(episode))
