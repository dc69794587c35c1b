"""Checks of what has a time of its own: the samples of streams, and events."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from robopolicy_datasets.clock import NANOSECONDS, ns_to_seconds
from robopolicy_datasets.doctor.evidence import Evidence
from robopolicy_datasets.doctor.findings import Finding, Severity, counted
from robopolicy_datasets.doctor.limits import Limits
from robopolicy_datasets.recording.gaps import GapWatch


def not_finite(evidence: Evidence, limits: Limits) -> Iterator[Finding]:
    """Finds samples with a NaN or infinite value."""
    for stream in evidence.streams:
        if stream.not_finite:
            message = (
                f"{counted(stream.not_finite, 'sample')} with NaN or infinite values, which spoil a "
                "training. `robopolicy data repair` leaves the episode out."
            )
            yield Finding("not_finite", Severity.ERROR, message, stream.episode, stream.feature.key)


def gaps(evidence: Evidence, limits: Limits) -> Iterator[Finding]:
    """Finds streams of another rate than declared, and samples that are missing."""
    for stream in evidence.streams:
        key, rate_hz, steps = stream.feature.key, stream.feature.rate_hz, np.diff(stream.time_ns)
        if not rate_hz or not len(steps):
            continue
        found_hz = NANOSECONDS / float(np.median(steps))
        if abs(rate_hz / found_hz - 1) > limits.rate_share:
            message = (
                f"the samples come at {found_hz:.4g} Hz, but {rate_hz:g} Hz is declared. Correct the "
                "sensor's settings, or declare the true rate."
            )
            yield Finding("wrong_rate", Severity.WARNING, message, stream.episode, key)
            continue
        watch = GapWatch({key: rate_hz})
        watch.saw(key, stream.time_ns)
        if watch.missing:
            longest = max(event.end_ns - event.start_ns for event in watch.events())
            message = (
                f"{counted(watch.missing[key], 'sample')} missing in {counted(len(watch.events()), 'gap')}, "
                f"the longest {ns_to_seconds(longest):.4g} s. Look at it with `robopolicy data view`."
            )
            yield Finding("time_gap", Severity.WARNING, message, stream.episode, key)


def extents(evidence: Evidence, limits: Limits) -> Iterator[Finding]:
    """Finds streams that begin late or end early."""
    for stream in evidence.streams:
        extent = evidence.extent(stream.episode)
        if extent is None or extent[0] == extent[1]:
            continue
        times = np.clip(stream.time_ns, *extent)
        covered = (times[-1] - times[0]) / (extent[1] - extent[0]) if len(times) else 0.0
        if covered < limits.stream_share:
            message = (
                f"the samples cover {covered:.0%} of the episode; the sensor was started late, failed, or "
                "has another clock. Leave the episode out, or train without the stream."
            )
            yield Finding("stream_short", Severity.WARNING, message, stream.episode, stream.feature.key)


def events(evidence: Evidence, limits: Limits) -> Iterator[Finding]:
    """Finds events that lie outside their episode."""
    for event in evidence.events:
        extent = evidence.extent(event.episode)
        if extent is not None and (event.end_ns < extent[0] or event.start_ns > extent[1]):
            away = max(extent[0] - event.end_ns, event.start_ns - extent[1])
            message = (
                f"the event '{event.kind}' lies {ns_to_seconds(away):.4g} s outside the episode; was it "
                "given in the time of another clock?"
            )
            yield Finding("event_out_of_range", Severity.WARNING, message, event.episode)
