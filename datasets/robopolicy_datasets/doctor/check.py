"""Checks a store. A check is a function from evidence and limits to findings, listed in ``CHECKS``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from robopolicy_datasets.doctor import episode_checks, image_checks, stream_checks, time_checks, value_checks
from robopolicy_datasets.doctor.evidence import Evidence, gather
from robopolicy_datasets.doctor.findings import Finding, Severity
from robopolicy_datasets.doctor.limits import Limits
from robopolicy_datasets.store.demo_store import DemoStore

Check = Callable[[Evidence, Limits], Iterator[Finding]]

CHECKS: tuple[Check, ...] = (
    episode_checks.unreadable,
    episode_checks.unfinished,
    time_checks.order,
    time_checks.gaps,
    value_checks.not_finite,
    stream_checks.not_finite,
    stream_checks.gaps,
    stream_checks.extents,
    stream_checks.events,
    value_checks.action_jumps,
    value_checks.units,
    image_checks.frozen,
    image_checks.black,
    image_checks.saturated,
    episode_checks.lengths,
)


def check_store(
    store: DemoStore,
    limits: Limits | None = None,
    *,
    checks: Sequence[Check] = CHECKS,
    progress: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """Checks every episode of ``store``; images are read episode by episode.

    Args:
        store: the store, ours or a foreign one.
        limits: beyond which a check speaks up; the defaults where none are given.
        checks: the checks to run.
        progress: called with (episodes done, episodes in all).

    Returns:
        The findings, errors first, then in the order of the checks.
    """
    evidence = gather(store, progress)
    found = [finding for check in checks for finding in check(evidence, limits or Limits())]
    return sorted(found, key=lambda finding: list(Severity).index(finding.severity))
