"""Checks whether a robot and its cameras behave as the driver interfaces ask, and measures their rates.

It opens the real device and moves nothing: the only target that it commands is the present state. It also
stops the robot and releases the stop again. The exit code is 1 when something does not conform.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING, DictConfig

from robopolicy_datasets.errors import ConfigError
from robopolicy_launch import console

if TYPE_CHECKING:
    from robopolicy_drivers.interfaces import Camera

GROUPS: dict[str, str | None] = {"robot": None}
POSITIONAL = ()

POLL_S = 0.001
HEADER = ("what", "rate [Hz]", "age, median [ms]", "age, max [ms]", "longest gap [ms]")


@dataclass
class Settings:
    """Settings of ``robopolicy devices check``.

    Attributes:
        seconds: for how long each rate is measured [s].
        robot: what is checked.
    """

    seconds: float = 2.0
    robot: Any = MISSING

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise ConfigError(f"seconds={self.seconds} is not possible; give a number above 0.")


def run(settings: Settings, config: DictConfig) -> int:
    """Prints what was checked and a table of rates."""
    from robopolicy_drivers.conformance import check_driver
    from robopolicy_drivers.interfaces import ReportsLateness
    from robopolicy_launch.verbs.devices.connecting import build, connected

    _tell("robot", check_driver(lambda: build(settings.robot)))
    with build(settings.robot) as robot:
        for number, camera in enumerate(getattr(robot, "cameras", ())):
            _tell(f"camera {number}", _check_camera(camera))
    robot = build(settings.robot)
    with connected(robot) as cameras:
        rows = [_rates("state", robot.state, settings.seconds)]
        for camera in cameras:
            names = ", ".join(feature.key for feature in camera.spec.observation)
            rows.append(_rates(names, camera.read, settings.seconds))
        lateness = robot.lateness() if isinstance(robot, ReportsLateness) else None
    console.table(rows, header=HEADER)
    if lateness is not None:
        console.line(
            f"  Of {lateness.ticks:,} ticks of its own loop {lateness.late_10ms} were more than 10 ms late; "
            f"the latest by {lateness.max_ms:.3g} ms."
        )
    return 0


def _check_camera(camera: Camera) -> list[str]:
    from robopolicy_drivers.conformance import check_camera

    return check_camera(lambda: camera)


def _tell(device: str, passed: list[str]) -> None:
    console.line(f"{device}:")
    for what in passed:
        console.line(f"  ok  {what}")
    console.line()


def _rates(name: str, read: Callable[[], tuple[int, Any]], seconds: float) -> tuple[Any, ...]:
    """Reads a device as often as possible and returns the row of the table."""
    import numpy as np

    from robopolicy_datasets.clock import NANOSECONDS, now_ns

    times, ages = [read()[0]], []
    end = now_ns() + round(seconds * NANOSECONDS)
    while (now := now_ns()) < end:
        newest = read()[0]
        ages.append(now_ns() - newest)
        if newest > times[-1]:
            times.append(newest)
        time.sleep(max(POLL_S - (now_ns() - now) / NANOSECONDS, 0.0))
    gaps_ms, ages_ms = np.diff(times) / 1e6, np.array(ages) / 1e6
    rate = 1e3 * len(gaps_ms) / gaps_ms.sum() if gaps_ms.size else 0.0
    longest = float(gaps_ms.max()) if gaps_ms.size else None
    return (name, float(rate), float(np.median(ages_ms)), float(ages_ms.max()), longest)
