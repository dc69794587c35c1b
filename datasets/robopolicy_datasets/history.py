"""Histories: what a policy sees of a stream, points in time from some way back up to the present.

A history is a ``Feature`` of the shape ``[points, *shape]``, the newest point last, with the rate of its
points. That is all there is to know about it, so that it can be made wherever the stream's samples are: of a
store (``windows.HistoryWindow``), of a robot's sensor or in a simulation (``Past``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError, SpecError, nearest_names
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.stream_samples import StreamSamples, Times, evenly_spaced

LONGEST_S = 10.0
"""Of the past that can be seen [s]; what was longer ago is for a memory, not for a history."""

_NOT_INTERPOLATED = ("rgb", "depth", "language", "axis_angle", "angle")


class Span(Protocol):
    """How much of a stream is seen.

    Attributes:
        samples: points in time.
        seconds: from the first point to the present [s].
    """

    samples: int
    seconds: float


def check_span(key: str, span: Span) -> None:
    """Refuses what is no span of time.

    Raises:
        ConfigError: there are no points, or their span is not positive or too long.
    """
    if span.samples < 1 or not 0 < span.seconds <= LONGEST_S:
        raise ConfigError(
            f"Of the stream '{key}' {span.samples} samples over {span.seconds} s are to be seen; give at "
            f"least 1 sample, and a span above 0 s, at most {LONGEST_S:g} s."
        )


def history_of(stream: Feature, span: Span) -> Feature:
    """Returns the history of a stream; of one point it is the newest value alone, whatever the span.

    Raises:
        ConfigError: the span is not possible.
        SpecError: the stream's values are not numbers between which there are others.
    """
    check_span(stream.key, span)
    if np.dtype(stream.dtype).kind != "f" or stream.kind in _NOT_INTERPOLATED or stream.history:
        raise SpecError(
            f"No history can be made of '{stream.describe()}': its values cannot be interpolated. Streams of "
            f"floats can be seen, of any kind but {', '.join(_NOT_INTERPOLATED)}."
        )
    rate_hz = (span.samples - 1) / span.seconds
    shape = (span.samples, *stream.shape)
    return replace(stream, shape=shape, dtype="float32", rate_hz=rate_hz, history=True)


def sample_of(history: Feature) -> Feature:
    """Returns what one point of a history is."""
    return replace(history, shape=history.shape[1:], history=False)


def points_of(history: Feature) -> Times:
    """Returns when its points are, relative to the present ``[points]``; the last is 0 [ns]."""
    points = history.shape[0]
    return evenly_spaced(points, (points - 1) / history.rate_hz if points > 1 else 0.0)


def with_histories(spec: Spec, streams: Iterable[Feature], spans: Mapping[str, Span], whose: str) -> Spec:
    """Returns what is observed where histories are seen, instead of what the steps show of these streams.

    Args:
        spec: of the steps.
        streams: that there are.
        spans: by key, how much of a stream is seen.
        whose: the streams are, for the message, e.g. ``"store 'a.zarr'"``.

    Raises:
        SpecError: there is no such stream, or no history can be made of it.
        ConfigError: a span is not possible.
    """
    offered = {stream.key: stream for stream in streams}
    for key in spans:
        if key not in offered:
            options = ", ".join(nearest_names(key, offered)) or "none"
            raise SpecError(f"The {whose} has no stream '{key}', which is to be seen. It has: {options}.")
    return _replaced(spec, [history_of(offered[key], span) for key, span in spans.items()])


def offering(spec: Spec, streams: Iterable[Feature], wanted: Spec) -> Spec:
    """Returns what somebody who has a stream's samples offers to a policy: those histories that it wants.

    Args:
        spec: what is observed at the steps.
        streams: whose samples there are.
        wanted: of the policy.
    """
    asked = {feature.key: feature for feature in wanted.observation if feature.history}
    made = []
    for stream in streams:
        if history := asked.get(stream.key):
            shape = (history.shape[0], *stream.shape)
            made.append(replace(stream, shape=shape, dtype="float32", rate_hz=history.rate_hz, history=True))
    return _replaced(spec, made)


def _replaced(spec: Spec, histories: Sequence[Feature]) -> Spec:
    """Returns a Spec in which histories stand in the place of the features that have their keys."""
    keys = {history.key for history in histories}
    steps = [feature for feature in spec.observation if feature.key not in keys]
    return Spec((*steps, *histories), spec.action)


class Past:
    """The newest samples of a stream, as many as its history needs.

    Args:
        history: what is to be seen.
    """

    def __init__(self, history: Feature) -> None:
        self._points = points_of(history)
        self._nothing = np.zeros(history.shape[1:], history.dtype)
        self.forget()

    @property
    def newest_ns(self) -> int | None:
        """Time of the newest sample [ns]; None while there is none."""
        return int(self._times[-1]) if len(self._times) else None

    def forget(self) -> None:
        """Drops all samples."""
        self._values: NDArray[Any] = np.zeros((0, *self._nothing.shape), self._nothing.dtype)
        self._times: Times = np.zeros(0, np.int64)

    def add(self, values: NDArray[Any], times_ns: Times) -> None:
        """Takes samples that are later than those before.

        Args:
            values: ``[N, *shape]``.
            times_ns: ``[N]``, strictly increasing [ns].
        """
        later = times_ns > self._times[-1] if len(self._times) else slice(None)
        self._values = np.concatenate([self._values, values[later].astype(self._values.dtype)])
        self._times = np.concatenate([self._times, times_ns[later]])

    def at(self, present_ns: int) -> NDArray[Any]:
        """Returns the history ``[points, *shape]`` at a time [ns], and drops what is older than all of it."""
        time = present_ns + self._points[None]
        value, _ = StreamSamples([(self._values, self._times)]).at(time, np.zeros(1, np.intp))
        needed = max(int(np.searchsorted(self._times, time[0, 0], side="right")) - 1, 0)
        self._values, self._times = self._values[needed:], self._times[needed:]
        return value[0]
