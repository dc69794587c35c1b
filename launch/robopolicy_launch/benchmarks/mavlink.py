"""A vehicle over MAVLink: set points that arrive, a circle that is followed, a lost link that is answered.

The vehicle is simulated; its autopilot's protocol is MAVSDK's. What our figure is compared with is what was
sent, or what is asked for.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from robopolicy_datasets.clock import NANOSECONDS, now_ns, seconds_to_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.geometry import Array
from robopolicy_drivers.aerial.configs import SET_POINTS, MavlinkConfig
from robopolicy_drivers.aerial.vehicle import MavlinkVehicle
from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_drivers.safety.configs import Mode, SafetyConfig
from robopolicy_launch.benchmarks import Row
from robopolicy_sim.autopilot.vehicle import SimulatedVehicle

ASKED = "asked for"
_PORT = 14561
_RADIUS, _SPEED = 0.8, 0.5  # [m], [m/s]
_HEIGHT = 1.0  # [m]
_AHEAD_S = 0.5  # so long before its time each target is commanded
_PERIOD_S = 0.02
_LARGEST_ERROR, _LONGEST_LOSS_S = 0.15, 1.0
_LATEST_S = 0.4  # lag that is looked for
_WAIT_S = 10.0
_OFFBOARD = 7  # MAVSDK's number of the mode


def run(*, kinds: Sequence[str] = SET_POINTS, seconds: float = 60.0) -> Iterator[Row]:
    """Flies a circle with each kind of set point, and loses the link both ways.

    Args:
        kinds: of set points.
        seconds: that the first circle is flown for; the others take a fifth of it.
    """
    first, *others = kinds
    with _flight(first) as (vehicle, simulated):
        yield from _circle(first, vehicle, simulated, seconds)
        yield from _losses(vehicle, simulated)
    for kind in others:
        with _flight(kind) as (vehicle, simulated):
            yield from _circle(kind, vehicle, simulated, 0.2 * seconds)


@contextmanager
def _flight(kind: str) -> Iterator[tuple[MavlinkVehicle, SimulatedVehicle]]:
    base = load_embodiment(MavlinkConfig.embodiment).flying_base
    hover_thrust = 9.81 * base.mass / float(base.thrust_limits.sum())
    config = MavlinkConfig(
        address=f"udpin:127.0.0.1:{_PORT}",
        set_point=kind,
        hover_thrust=hover_thrust,
        safety=SafetyConfig(step=Mode.CLIP, stale_state_s=0.5),  # back to the start in one command
    )
    with (
        SimulatedVehicle(f"udpout://127.0.0.1:{_PORT}", height=_HEIGHT) as simulated,
        MavlinkVehicle(config) as vehicle,
    ):
        yield vehicle, simulated


def _circle(kind: str, vehicle: MavlinkVehicle, simulated: SimulatedVehicle, seconds: float) -> Iterator[Row]:
    """Follows a circle; errors are those of the true position, the first lap left out."""
    _fly_on(vehicle, simulated)
    begun_ns, before = now_ns(), len(simulated.set_points())
    ticks = vehicle.lateness()
    times, positions = [], []
    while (elapsed := (now_ns() - begun_ns) / NANOSECONDS) < seconds:
        ahead = elapsed + _AHEAD_S
        vehicle.command(_on_circle(np.array(ahead)), begun_ns + seconds_to_ns(ahead))
        truth = simulated.truth()
        times.append((truth.time_ns - begun_ns) / NANOSECONDS)
        positions.append(truth.data["position"])
        time.sleep(_PERIOD_S)
    sent = vehicle.lateness().since(ticks)
    arrived = simulated.set_points()[before:]
    steps = np.diff(arrived[:, 0])
    lap = min(2 * np.pi * _RADIUS / _SPEED, 0.5 * seconds)
    later, true = np.array(times), np.array(positions)
    plain = _errors(later, true, lap, 0.0)
    lags = np.arange(0.0, _LATEST_S, 0.01)
    lag = float(lags[np.argmin([_errors(later, true, lap, each).mean() for each in lags])])
    compensated = _errors(later, true, lap, lag)
    name = f"mavlink_{kind}"
    yield Row(f"{name}_set_points", len(arrived), sent.ticks - sent.skipped, "count", "ticks of the driver")
    yield Row(f"{name}_longest_step", float(steps.max()), 1e3 * _PERIOD_S, "ms", "none lost")
    yield Row(f"{name}_rate", 1e3 / float(steps.mean()), 1.0 / _PERIOD_S, "Hz", ASKED)
    yield Row(f"{name}_error_mean", float(plain.mean()), _LARGEST_ERROR, "m", ASKED)
    yield Row(f"{name}_error_max", float(plain.max()), _LARGEST_ERROR, "m", ASKED)
    yield Row(f"{name}_error_without_lag_max", float(compensated.max()), _LARGEST_ERROR, "m", ASKED)
    yield Row(f"{name}_lag", lag, _LATEST_S, "s", "the largest looked for")


def _losses(vehicle: MavlinkVehicle, simulated: SimulatedVehicle) -> Iterator[Row]:
    simulated.freeze()
    silent_s = _seconds_until(lambda: _stopped(vehicle))
    simulated.thaw()
    yield Row("mavlink_silent_vehicle_stops_us", silent_s, _LONGEST_LOSS_S, "s", ASKED)
    _wait(lambda: _released(vehicle))
    _fly_on(vehicle, simulated)
    before_ns = simulated.truth().data["fail_safe_ns"]
    os.kill(vehicle.pid or 0, signal.SIGKILL)
    _wait(lambda: simulated.truth().data["fail_safe_ns"] > before_ns)
    since_ns = simulated.truth().data["fail_safe_ns"] - simulated.set_points()[-1, 1]
    yield Row("mavlink_killed_driver_fail_safe", float(since_ns) / NANOSECONDS, _LONGEST_LOSS_S, "s", ASKED)


def _on_circle(seconds: Array) -> Array:
    """The target ``[..., 6]`` at a time [s]; it begins at rest, and has its full speed after a second."""
    way = _SPEED * np.where(seconds < 1.0, 0.5 * seconds**2, seconds - 0.5) / _RADIUS
    x, y = _RADIUS * np.sin(way), _RADIUS * (1.0 - np.cos(way))
    zero = np.zeros_like(way)
    return np.stack([x, y, zero + _HEIGHT, zero, zero, zero], axis=-1)


def _errors(times: Array, positions: Array, begin: float, lag: float) -> Array:
    """Distances ``[N]`` [m] from where it was to be ``lag`` [s] before, from ``begin`` [s] on."""
    counted = times > begin
    return np.asarray(np.linalg.norm(positions[counted] - _on_circle(times[counted] - lag)[:, :3], axis=-1))


def _fly_on(vehicle: MavlinkVehicle, simulated: SimulatedVehicle) -> None:
    """Brings it to where the circle begins, following set points."""
    start = _on_circle(np.array(0.0))

    def there() -> Any:
        vehicle.command(start, now_ns() + seconds_to_ns(_AHEAD_S))
        truth = simulated.truth().data
        return truth["mode"] == _OFFBOARD and float(np.linalg.norm(truth["position"] - start[:3])) < 0.05

    _wait(there)


def _stopped(vehicle: MavlinkVehicle) -> bool:
    try:
        vehicle.command(_on_circle(np.array(0.0)), now_ns())
    except DeviceError:
        return True
    return False


def _released(vehicle: MavlinkVehicle) -> bool:
    try:
        vehicle.release()
    except DeviceError:  # the link is not back yet
        return False
    return True


def _seconds_until(there: Callable[[], Any]) -> float:
    begun = time.monotonic()
    _wait(there)
    return time.monotonic() - begun


def _wait(there: Callable[[], Any]) -> None:
    deadline = time.monotonic() + _WAIT_S
    while not there():
        if time.monotonic() > deadline:
            raise DeviceError(f"The simulated vehicle did not do what was expected within {_WAIT_S:g} s.")
        time.sleep(0.002)
