"""Checks of time: order, gaps and rate."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from robopolicy_datasets.clock import NANOSECONDS, ns_to_seconds
from robopolicy_datasets.doctor.evidence import Evidence
from robopolicy_datasets.doctor.findings import Finding, Severity, counted
from robopolicy_datasets.doctor.limits import Limits

DUPLICATE = "time_duplicate"
BACKWARD = "time_backward"


def order(evidence: Evidence, limits: Limits) -> Iterator[Finding]:
    """Finds steps whose time equals the time before, or lies before it."""
    if evidence.time_ns is None:
        return
    steps = np.diff(evidence.time_ns, prepend=0)
    for span in evidence.spans(evidence.follows & (steps == 0)):
        message = (
            f"{counted(span.count, 'step')} at the time of the step before; a writer stored them twice. "
            "`robopolicy data repair` drops them."
        )
        yield Finding(DUPLICATE, Severity.ERROR, message, span.episode, steps=span.steps)
    for span in evidence.spans(evidence.follows & (steps < 0)):
        back = ns_to_seconds(-int(steps[span.row]))
        message = (
            f"time runs back by {back:.4g} s; the clock was set or two recordings are mixed. "
            "`robopolicy data repair` keeps the longest part in order."
        )
        yield Finding(BACKWARD, Severity.ERROR, message, span.episode, steps=span.steps)


def gaps(evidence: Evidence, limits: Limits) -> Iterator[Finding]:
    """Finds a wrong rate of the whole store, and gaps within episodes."""
    if evidence.time_ns is None or not evidence.rate_hz:
        return
    steps = np.diff(evidence.time_ns, prepend=0)
    inside = evidence.follows & (steps > 0)
    if not inside.any():
        return
    period = NANOSECONDS / evidence.rate_hz
    median = float(np.median(steps[inside]))
    if abs(median / period - 1) > limits.rate_share:
        message = (
            f"the median time between steps is {1e3 * ns_to_seconds(round(median)):.4g} ms, "
            f"but at {evidence.rate_hz:g} Hz it is {1e3 * ns_to_seconds(round(period)):.4g} ms. "
            "Record again at the rate, or import with the true one."
        )
        yield Finding("wrong_rate", Severity.WARNING, message)
    expected = max(median, period)
    late = inside & (steps > limits.gap_periods * expected)
    for span in evidence.spans(late):
        rows = slice(span.row, span.row + span.last - span.first + 1)
        longest = np.where(late[rows], steps[rows], 0).max()
        message = (
            f"{counted(span.count, 'gap')} in time, the longest {ns_to_seconds(int(longest)):.4g} s "
            f"({longest / expected:.1f} periods). Cut there with `robopolicy data trim keep=...`, "
            "or leave the episode out."
        )
        yield Finding("time_gap", Severity.WARNING, message, span.episode, steps=span.steps)
