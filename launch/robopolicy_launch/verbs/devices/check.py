"""Checks whether a robot with its cameras, or another device, behaves as its driver interface asks.

It opens the real device and moves nothing: the only target that it commands is the present state. It also
stops a robot and releases the stop again. Then it measures rates. The exit code is 1 when something does not
conform.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.registry import load_target
from robopolicy_launch import console
from robopolicy_launch.settings import registered_name
from robopolicy_launch.verbs.devices.connecting import build, connected

if TYPE_CHECKING:
    from robopolicy_drivers.interfaces import Camera, Sensor

GROUPS: dict[str, str | None] = {"robot": None, "camera": None, "sensor": None, "teleop": None}
POSITIONAL = ()

POLL_S = 0.001
HEADER = ("what", "rate [Hz]", "age, median [ms]", "age, max [ms]", "longest gap [ms]")


@dataclass
class Settings:
    """Settings of ``robopolicy devices check``.

    Attributes:
        seconds: for how long each rate is measured [s].
        robot: what is checked.
        camera: what is checked, by itself.
        sensor: what is checked, by itself.
        teleop: what is checked, by itself.
    """

    seconds: float = 2.0
    robot: Any = None
    camera: Any = None
    sensor: Any = None
    teleop: Any = None

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise ConfigError(f"seconds={self.seconds} is not possible; give a number above 0.")
        if not (self.robot or self.camera or self.sensor or self.teleop):
            raise ConfigError(
                "'robopolicy devices check' needs robot=..., camera=..., sensor=... or teleop=...; 'devices "
                "list' shows what there is."
            )


def run(settings: Settings, config: DictConfig) -> int:
    """Prints what was checked and a table of rates."""
    from robopolicy_drivers.conformance import check_camera, check_sensor

    rows: list[tuple[Any, ...]] = []
    notes: list[str] = []
    if settings.robot:
        rows, notes = _check_robot(settings)
    for kind, given, check, make in (
        ("camera", settings.camera, check_camera, build),
        ("sensor", settings.sensor, check_sensor, build),
        ("teleop", settings.teleop, check_sensor, _held_in_hand),
    ):
        if given:
            _tell(kind, check(functools.partial(make, kind, given)))
            with make(kind, given) as device:
                rows.append(_rates(_keys(device), device.read, settings.seconds))
    console.table(rows, header=HEADER)
    for note in notes:
        console.line(f"  {note}")
    return 0


def _check_robot(settings: Settings) -> tuple[list[tuple[Any, ...]], list[str]]:
    """Checks a robot and its cameras; returns their rows of the table, and notes below it."""
    from robopolicy_drivers.conformance import check_camera, check_driver
    from robopolicy_drivers.interfaces import ReportsLateness

    _tell("robot", check_driver(lambda: build("robot", settings.robot)))
    with build("robot", settings.robot) as robot:
        for number, camera in enumerate(getattr(robot, "cameras", ())):
            _tell(f"camera {number}", check_camera(functools.partial(_as_it_is, camera)))
    robot = build("robot", settings.robot)
    with connected(robot) as cameras:
        rows = [_rates("state", robot.state, settings.seconds)]
        rows += [_rates(_keys(camera), camera.read, settings.seconds) for camera in cameras]
        lateness = robot.lateness() if isinstance(robot, ReportsLateness) else None
    if lateness is None:
        return rows, []
    return rows, [
        f"Of {lateness.ticks:,} ticks of its own loop {lateness.late_10ms} were more than 10 ms late; "
        f"the latest by {lateness.max_ms:.3g} ms."
    ]


def _as_it_is(camera: Camera) -> Camera:
    return camera


def _held_in_hand(kind: str, config: Any) -> Sensor:
    """Builds the sensor that a person holds, of a teleoperation device."""
    if not hasattr(config, "sensor"):
        name = registered_name(kind, config)
        raise ConfigError(f"teleop={name} is nothing that a person holds; there is nothing to be checked.")
    sensor: Sensor = load_target(config.sensor)(config)
    return sensor


def _keys(device: Sensor) -> str:
    return ", ".join(feature.key for feature in device.spec.observation)


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
