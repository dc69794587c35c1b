"""Calibrates the joints of an arm that a person moves by hand."""

from __future__ import annotations

import math
import time
from contextlib import closing
from typing import Any, Protocol

from omegaconf import DictConfig

from robopolicy_datasets.errors import ConfigError, DeviceError
from robopolicy_datasets.registry import load_target, robots
from robopolicy_launch import console
from robopolicy_launch.settings import registered_name
from robopolicy_launch.verbs.devices.calibrate import Settings

QUIET_S = 8.0  # without any range growing, after which a recording that has all of them is complete
PATIENCE_S = 120.0
GROWTH = math.radians(1.0)
PAUSE_S = 0.005
ATTRIBUTE = "joint_calibration"  # of a robot's config class: "module:class" of its JointRecording


class JointRecording(Protocol):
    """What calibrates the joints of one sort of arm; it is built with the robot's config."""

    def open(self) -> None:
        """Connects and switches the torque off."""

    def sample(self) -> dict[str, tuple[float, float]]:
        """Returns how far each joint was moved and how far it must be at least [rad], by name."""

    def finish(self) -> None:
        """Writes the calibration."""

    def close(self) -> None:
        """Disconnects."""


def calibrate_joints(settings: Settings, config: DictConfig) -> None:
    """Records while the joints are moved; ends by itself when all were and nothing grows any more.

    Raises:
        ConfigError: this robot's joints are calibrated otherwise.
        DeviceError: nobody moved what is missing for two minutes, or the recording failed.
    """
    robot = settings.robot
    name = registered_name("robot", robot)
    target = getattr(robot, ATTRIBUTE, None)
    if target is None:
        able = [other for other in robots.names() if hasattr(robots.config_class(other), ATTRIBUTE)]
        raise ConfigError(
            f"The joints of robot={name} are calibrated with its maker's tools. This is for: "
            f"{', '.join(able) or 'none that is installed'}."
        )
    recording: JointRecording = load_target(target)(robot)
    with closing(recording):
        recording.open()
        console.line(
            "The torque is off: hold the arm. Move every joint, and the gripper, from stop to stop, one "
            "after the other and not too fast. Turn a joint without stops equally far to both sides. It ends "
            f"{QUIET_S:.0f} s after the last one."
        )
        spans = _record(recording)
        recording.finish()
    console.table(
        [[joint, f"{math.degrees(way):.0f}"] for joint, (way, _) in spans.items()],
        header=("joint", "range [degrees]"),
    )
    console.line(
        f"{robot.calibration}: written, and kept by the servos. Next: robopolicy devices check robot=..."
    )


def _record(recording: JointRecording) -> dict[str, tuple[float, float]]:
    """Follows the joints until they are done."""
    covered: set[str] = set()
    before: dict[str, Any] = {}
    grown_at = time.monotonic()
    while True:
        spans = recording.sample()
        if any(way > before.get(name, -1.0) + GROWTH for name, (way, _) in spans.items()):
            before, grown_at = {name: way for name, (way, _) in spans.items()}, time.monotonic()
        for name, (way, needed) in spans.items():
            if way >= needed and name not in covered:
                covered.add(name)
                console.line(f"  {len(covered)} of {len(spans)}: {name}")
        quiet_s, missing = time.monotonic() - grown_at, [name for name in spans if name not in covered]
        if not missing and quiet_s > QUIET_S:
            return spans
        if quiet_s > PATIENCE_S:
            raise DeviceError(
                f"Nothing was moved for {PATIENCE_S:.0f} s, and these joints were not moved from stop to "
                f"stop: {', '.join(missing)}. Nothing was written; begin again."
            )
        time.sleep(PAUSE_S)
