"""Measures latencies: a robot makes a small motion, and what it and its cameras say of it is compared.

The motion goes through ``robot.command``, so the safety gate of its process is in force.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, ns_to_seconds, seconds_to_ns
from robopolicy_datasets.errors import ConfigError, DeviceError, RobopolicyError
from robopolicy_drivers.calibration.delay import LONGEST_DELAY_S, Delay, estimate_delay
from robopolicy_drivers.calibration.motion import ProbeMotion
from robopolicy_drivers.conformance import holding_target
from robopolicy_drivers.interfaces import Camera, Robot
from robopolicy_drivers.realtime.loop import DeadlineLoop

RATE_HZ = 50.0
LEAST_SHARE = 0.5  # of the asked motion that a device must make
LEAD_S = 0.1  # a target is commanded so long before its time
GRIPPER_ENTRY = {"pose_width": 6}  # of an action, by its kind
_FRAME_PIXELS = 48  # of the longer side; a motion by a fraction of such a pixel still shows


@dataclass
class Trace:
    """Samples of one quantity.

    Attributes:
        times: when [s, monotonic].
        values: numbers, or images as flat vectors.
    """

    times: list[float] = field(default_factory=list)
    values: list[float | NDArray[np.float32]] = field(default_factory=list)

    def add(self, time_ns: int, value: float | NDArray[np.float32]) -> None:
        """Adds a sample, unless it is the last one again."""
        seconds = ns_to_seconds(time_ns)
        if not self.times or seconds > self.times[-1]:
            self.times.append(seconds)
            self.values.append(value)

    def array(self) -> NDArray[np.float64]:
        """Returns the values ``[N]``, of images ``[N, P]``."""
        return np.array(self.values, np.float64)


@dataclass
class Recording:
    """What was commanded and seen during one motion.

    Attributes:
        motion: what was asked.
        commanded: the moved entry of the action, at the time that it was commanded for.
        measured: the same entry of the state.
        images: reduced images by feature key.
    """

    motion: ProbeMotion
    commanded: Trace = field(default_factory=Trace)
    measured: Trace = field(default_factory=Trace)
    images: dict[str, Trace] = field(default_factory=dict)

    def device_delay(self) -> Delay:
        """Returns how much later than commanded the device was where it was commanded to be.

        Raises:
            DeviceError: it did not move, or not as commanded.
        """
        commanded, measured = self.commanded, self.measured
        moved, asked = float(np.ptp(measured.array())), abs(self.motion.amplitude)
        if moved < LEAST_SHARE * asked:
            raise DeviceError(
                f"The device moved by {moved:.3g} where {asked:.3g} was asked; no delay was measured. Look "
                "whether it is at a limit (then give the amplitude the other sign) or is held."
            )
        return estimate_delay(commanded.times, commanded.array(), measured.times, measured.array())

    def camera_delay(self, key: str) -> Delay:
        """Returns how much later than what it shows the time stamp of an image is.

        The signal of the images is their first principal component: how much of what changes most.

        Args:
            key: of the image feature.

        Raises:
            DeviceError: the images do not show the motion.
        """
        images = self.images[key].array()
        changes = images - images.mean(axis=0)
        weights, _, _ = np.linalg.svd(changes, full_matrices=False)
        measured = self.measured
        return estimate_delay(
            measured.times, measured.array(), self.images[key].times, weights[:, 0], signed=False
        )


def record_motion(robot: Robot, cameras: Sequence[Camera], entry: int, motion: ProbeMotion) -> Recording:
    """Moves one entry of the action away and back; the robot holds in the end.

    Args:
        robot: connected; it must be free to move.
        cameras: connected.
        entry: which number of the action moves, e.g. 2 for z of a pose.
        motion: how.

    Raises:
        ConfigError: the action has no such entry, or none that the state shows.
        DeviceError: a device failed, or the robot was stopped.
    """
    _, start = _read(robot)
    if not 0 <= entry < len(start):
        raise ConfigError(f"Entry {entry} of the action does not exist; give 0 to {len(start) - 1}.")
    recording = Recording(motion)
    loop = DeadlineLoop(RATE_HZ)
    begin_ns = now_ns() + seconds_to_ns(LEAD_S + LONGEST_DELAY_S)
    end_ns = begin_ns + seconds_to_ns(motion.seconds + LONGEST_DELAY_S)
    try:
        while (now := now_ns()) < end_ns:
            loop.wait()
            at_ns = now + seconds_to_ns(LEAD_S)
            target = np.array(start, np.float64)
            target[entry] += motion.displacement(ns_to_seconds(at_ns - begin_ns))
            sent = robot.command(target, at_ns)
            recording.commanded.add(at_ns, float(sent[entry]))
            _observe(robot, cameras, entry, recording)
    finally:
        with contextlib.suppress(RobopolicyError):  # what went wrong first is what must be told
            robot.hold()
    return recording


def _observe(robot: Robot, cameras: Sequence[Camera], entry: int, recording: Recording) -> None:
    time_ns, position = _read(robot)
    recording.measured.add(time_ns, float(position[entry]))
    for camera in cameras:
        time_ns, images = camera.read()
        for key, image in images.items():
            recording.images.setdefault(key, Trace()).add(time_ns, _reduced(image))


def _read(robot: Robot) -> tuple[int, NDArray]:
    """Returns the time of the newest state and the state in the layout of the action ``[A]``."""
    time_ns, state = robot.state()
    position = holding_target(robot.spec, state)
    if position is None:
        raise ConfigError(
            f"The action {robot.spec.action[0].describe()} does not tell which state it commands; latency is "
            "measured for actions that are poses, openings or joint positions."
        )
    return time_ns, position


def _reduced(image: NDArray) -> NDArray[np.float32]:
    """Returns an image's brightness at a small size, as a flat vector."""
    brightness = image.astype(np.float32).reshape(*image.shape[:2], -1).mean(axis=2)
    scale = _FRAME_PIXELS / max(brightness.shape)
    if scale < 1:
        brightness = cv2.resize(brightness, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return brightness.ravel()
