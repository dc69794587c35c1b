"""All that the devices of a robot measure, at their own rates, for a recorder and for a policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol, TypeGuard

from numpy.typing import NDArray

from robopolicy_datasets.errors import SpecError, nearest_names
from robopolicy_datasets.history import Past
from robopolicy_datasets.spec import Feature
from robopolicy_drivers.interfaces import Member, Robot
from robopolicy_drivers.realtime.ring import Ring
from robopolicy_drivers.realtime.ring_source import LOST, RingSource
from robopolicy_drivers.runtime.members import members_of


class KeepsSamples(Protocol):
    """A device whose process writes each sample into a ring."""

    @property
    def ring(self) -> Ring:
        """The ring, while it is connected."""


def stream_features(robot: Robot, steps_hz: float) -> list[Feature]:
    """Returns what there are samples of, beside the steps; the robot need not be connected.

    It is all numbers of the sensors, and those of the robots that are declared to be faster than the steps.
    A device that is not hosted in a process of its own keeps no samples, and has no stream; images are for
    the steps.

    Args:
        robot: the robot.
        steps_hz: steps a second.
    """
    return [
        replace(feature, key=member.rename(feature.key), frame=member.rename(feature.frame))
        for member, _, kept in _kept(robot, steps_hz)
        for feature in kept
    ]


def streams_of(robot: Robot, steps_hz: float) -> tuple[list[Feature], list[RingSource]]:
    """Returns what a store can keep sample by sample, beside the steps, and what brings these samples.

    Where a device counts what it loses, or is a robot, which does not say how often it really measures anew,
    the stream declares no rate: its times are no evidence of what is missing.

    Args:
        robot: connected.
        steps_hz: steps a second.
    """
    rated: dict[str, bool] = {}
    sources: list[RingSource] = []
    for member, device, kept in _kept(robot, steps_hz):
        keys = [feature.key for feature in kept]
        sources.append(RingSource(device.ring, keys, member.rename))
        is_rated = _is_sensor(member) and LOST not in device.ring.features
        rated |= {member.rename(key): is_rated for key in keys}
    streams = stream_features(robot, steps_hz)
    return [s if rated[s.key] else replace(s, rate_hz=0.0) for s in streams], sources


class Histories:
    """What a policy sees of the past of streams, from the samples that the devices keep.

    Args:
        robot: connected.
        wanted: the policy's features that are histories.
        latency_ns: of a key, how much later than the world its time stamps are [ns].

    Raises:
        SpecError: no device keeps samples of what is wanted.
    """

    def __init__(self, robot: Robot, wanted: Sequence[Feature], latency_ns: Callable[[str], int]) -> None:
        self._pasts = {history.key: Past(history) for history in wanted}
        self._latency_ns = latency_ns
        offered = [feature.key for feature in stream_features(robot, 0.0)]
        if lacking := [key for key in self._pasts if key not in offered]:
            options = ", ".join(nearest_names(lacking[0], offered)) or "none"
            raise SpecError(
                f"No device of the robot keeps samples of {', '.join(lacking)}. Its streams: {options}."
            )
        self._sources: list[RingSource] = []
        for member, device, kept in _kept(robot, 0.0):
            keys = [feature.key for feature in kept if member.rename(feature.key) in self._pasts]
            if keys:
                self._sources.append(RingSource(device.ring, keys, member.rename, remembered=True))

    def read(self) -> dict[str, int]:
        """Takes what has come; returns the time of each stream's newest sample, by key [ns, monotonic]."""
        for source in self._sources:
            samples = source.read()
            for key, values in samples.values.items():
                self._pasts[key].add(values, samples.time_ns - self._latency_ns(key))
        return {key: past.newest_ns for key, past in self._pasts.items() if past.newest_ns is not None}

    def at(self, time_ns: int) -> dict[str, NDArray]:
        """Returns the histories at a time [ns, monotonic], by key; nothing later is in them."""
        return {key: past.at(time_ns) for key, past in self._pasts.items()}


def _kept(robot: Robot, steps_hz: float) -> Iterator[tuple[Member, KeepsSamples, list[Feature]]]:
    """Yields each device that keeps samples, as a member and as such, and its features that are streams."""
    for member in members_of(robot):
        device = member.device
        kept = [
            feature
            for feature in device.spec.observation
            if not feature.is_image and (_is_sensor(member) or feature.rate_hz > steps_hz)
        ]
        if kept and _keeps_samples(device):
            yield member, device, kept


def _keeps_samples(device: object) -> TypeGuard[KeepsSamples]:
    return hasattr(type(device), "ring")  # of the type: asking a disconnected device is an error


def _is_sensor(member: Member) -> bool:
    return not member.device.spec.action
