"""All that the devices of a robot measure, at their own rates, for a recorder."""

from __future__ import annotations

from dataclasses import replace

from robopolicy_datasets.spec import Feature
from robopolicy_drivers.hosting.device import HostedDevice
from robopolicy_drivers.interfaces import Robot
from robopolicy_drivers.realtime.ring_source import LOST, RingSource
from robopolicy_drivers.runtime.members import members_of


def streams_of(robot: Robot, steps_hz: float) -> tuple[list[Feature], list[RingSource]]:
    """Returns what a store can keep sample by sample, beside the steps, and what brings these samples.

    It is all numbers of the sensors, and those of the robots that are declared to be faster than the steps.
    Where a device counts what it loses, or is a robot, which does not say how often it really measures anew,
    the stream declares no rate: its times are no evidence of what is missing. A device that is not hosted in
    a process of its own keeps no samples, and has no stream; images are for the steps.

    Args:
        robot: connected.
        steps_hz: steps a second.
    """
    streams: list[Feature] = []
    sources: list[RingSource] = []
    for member in members_of(robot):
        device, is_sensor = member.device, not member.device.spec.action
        if not isinstance(device, HostedDevice):
            continue
        kept = [
            feature
            for feature in device.spec.observation
            if not feature.is_image and (is_sensor or feature.rate_hz > steps_hz)
        ]
        if kept:
            sources.append(RingSource(device.ring, [feature.key for feature in kept], member.rename))
            streams += [
                replace(
                    feature,
                    key=member.rename(feature.key),
                    frame=member.rename(feature.frame),
                    rate_hz=feature.rate_hz if is_sensor and LOST not in device.ring.features else 0.0,
                )
                for feature in kept
            ]
    return streams, sources
