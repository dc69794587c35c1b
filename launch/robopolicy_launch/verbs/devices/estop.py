"""Stops every robot that this user runs on this computer, whatever its program is doing.

The stop reaches the safety gate in each robot's own process: it brakes and latches. It works while the
program that runs the robot hangs. The exit code is 1 when a robot could not be stopped. This is no
safety-rated stop: keep the robot's own emergency stop within reach, and use it first.
"""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import DictConfig

from robopolicy_drivers.emergency_stop import Outcome, stop_all
from robopolicy_launch import console

GROUPS: dict[str, str | None] = {}
POSITIONAL = ()


@dataclass
class Settings:
    """Settings of ``robopolicy devices estop``.

    Attributes:
        reason: told to everybody who commands the robots afterwards.
    """

    reason: str = "emergency stop (robopolicy devices estop)"


def run(settings: Settings, config: DictConfig) -> int:
    """Stops, and prints what became of each robot."""
    reports = stop_all(settings.reason)
    for report in reports:
        robot, detail = report.robot, f": {report.detail}" if report.detail else ""
        console.line(f"  {report.outcome.value:8}{robot.name} (process {robot.pid}){detail}")
    failed = [report.robot for report in reports if report.outcome is Outcome.FAILED]
    if failed:
        kills = " ".join(str(robot.pid) for robot in failed)
        console.line(f"Use the emergency stop of the hardware. To end the processes: kill -9 {kills}")
    elif not reports:
        console.line("No robot of this user is running here.")
    return 1 if failed else 0
