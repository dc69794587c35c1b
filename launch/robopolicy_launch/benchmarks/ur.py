"""Streams to a Universal Robots controller: how well the arm follows, beside a plain loop around ur_rtde.

The controller is the emulator of the tests at its own address, so no real arm moves; start it first:
``tail -f /dev/null | python tests/drivers/emulators/ur_controller.py``. A circle of 0.1 m/s is streamed as
poses at 125 Hz, then swinging joints at 500 Hz, by a punctual thread. The plain loop sends the same path as
joints, computed before, from an ordinary process; it has neither interpolation nor inverse kinematics nor a
safety gate. An error is the distance from the path at the lag that fits best; pauses of the emulator count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.geometry import Array, pose_from_vector, pose_to_vector
from robopolicy_drivers.arms.arm import Arm
from robopolicy_drivers.arms.ur import UrConfig
from robopolicy_drivers.arms.ur_link import UrLink
from robopolicy_drivers.control.differential_ik import DifferentialIK
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_drivers.realtime.loop import DeadlineLoop
from robopolicy_drivers.realtime.scheduling import request_punctuality
from robopolicy_drivers.realtime.statistics import LatenessSummary
from robopolicy_launch.benchmarks import Row

HOST, EMBODIMENT = "127.0.0.5", "ur5e"
PLAIN = "ur_rtde in a plain loop"
_LOOKAHEAD_S = 0.03  # of servoj, the shortest
_AHEAD_S = 0.2  # that a target is known before its time, as those of a policy's chunk are
_SETTLING_S = 1.0  # at the beginning of a path, where no error is counted
_LARGEST_LAG_S = 0.25

Path = Callable[[Array], Array]


@dataclass(frozen=True)
class _Stream:
    """What was measured while a path was streamed."""

    largest_error: float
    usual_error: float  # 99 % are smaller
    lag_s: float
    lateness: LatenessSummary


def run(*, seconds: float = 60.0) -> Iterator[Row]:
    """Measures each kind of action.

    Args:
        seconds: that each path lasts.
    """
    for action, rate_hz, unit in (("pose", 125.0, "mm"), ("joint", 500.0, "mrad")):
        config = UrConfig(
            host=HOST, embodiment=EMBODIMENT, action=action, rate_hz=rate_hz, lookahead=_LOOKAHEAD_S
        )
        with ThreadPoolExecutor(1, initializer=request_punctuality) as punctual:
            ours = punctual.submit(_driven, config, seconds).result()
        plain = _plain(config, seconds)
        name = f"ur_{action}_{rate_hz:.0f}hz"
        yield Row(f"{name}_error_max", 1e3 * ours.largest_error, 1e3 * plain.largest_error, unit, PLAIN)
        yield Row(f"{name}_error_p99", 1e3 * ours.usual_error, 1e3 * plain.usual_error, unit, PLAIN)
        yield Row(f"{name}_lag", 1e3 * ours.lag_s, 1e3 * plain.lag_s, "ms", PLAIN)
        late, plain_late = ours.lateness, plain.lateness
        yield Row(f"{name}_late_p99", 1e3 * late.p99_ms, 1e3 * plain_late.p99_ms, "us", PLAIN)
        yield Row(f"{name}_served", _served(late), _served(plain_late), "share", PLAIN)


def circle(start: Array) -> Path:
    """Returns poses ``[N, 6]`` on a circle of 5 cm at 0.1 m/s, by the time ``[N]`` [s]."""

    def path(times_s: Array) -> Array:
        offset = np.zeros((len(times_s), 6))
        offset[:, 1] = 0.05 * np.sin(2.0 * times_s)
        offset[:, 2] = 0.05 * (np.cos(2.0 * times_s) - 1.0)
        return start + offset

    return path


def swing(start: Array) -> Path:
    """Returns joints ``[N, 6]`` of which each swings by 0.2 rad with a frequency of its own."""
    frequencies = 2.0 * np.pi * np.linspace(0.2, 0.45, 6)
    return lambda times_s: start + 0.1 * (1.0 - np.cos(times_s[:, None] * frequencies))


def _driven(config: UrConfig, seconds: float) -> _Stream:
    """Streams through the driver."""
    with Arm(config) as arm:
        state = arm.state()[1]
        path = _path(config, state["robot0_joint_pos"].astype(np.float64))
        loop, begun_ns, records, last = DeadlineLoop(config.rate_hz), now_ns(), [], arm.ring.latest
        ahead_ns, before = seconds_to_ns(_AHEAD_S), arm.lateness()
        while now_ns() - begun_ns < seconds_to_ns(seconds):
            loop.wait()
            at_ns = loop.deadline_ns + ahead_ns
            arm.command(path(np.array([1e-9 * (at_ns - begun_ns)]))[0], at_ns)
            fresh = arm.ring.newer_than(last)
            records += fresh
            last = fresh[-1].number if fresh else last
        lateness = arm.lateness().since(before)
    times_s = np.array([1e-9 * (record.time_ns - begun_ns) for record in records])
    joints = np.array([record.data["robot0_joint_pos"] for record in records], np.float64)
    return _stream(config, path, times_s, joints, lateness)


def _plain(config: UrConfig, seconds: float) -> _Stream:
    """Streams by ur_rtde alone, from where the arm stands."""
    with closing(UrLink(config)) as link:
        link.open()
        path = _path(config, link.read().positions)
        joints = _as_joints(config, path, link.read().positions, seconds)
        loop, begun_ns, readings = DeadlineLoop(config.rate_hz), now_ns(), []
        while (step := int(1e-9 * (now_ns() - begun_ns) * config.rate_hz)) < len(joints):
            loop.wait()
            link.send(joints[step])
            readings.append(link.read())
    times_s = np.array([1e-9 * (reading.time_ns - begun_ns) for reading in readings])
    measured = np.array([reading.positions for reading in readings])
    return _stream(config, path, times_s, measured, loop.statistics.summary())


def _path(config: UrConfig, joints: Array) -> Path:
    if config.action == "joint":
        return swing(joints)
    return circle(_poses(joints[None])[0])


def _poses(joints: Array) -> Array:
    return pose_to_vector(Kinematics(load_embodiment(EMBODIMENT)).forward(joints))


def _as_joints(config: UrConfig, path: Path, start: Array, seconds: float) -> Array:
    """Returns a path's joints ``[N, 6]``, one row a period."""
    wanted = path(np.arange(0.0, seconds, 1.0 / config.rate_hz))
    if config.action == "joint":
        return wanted
    ik = DifferentialIK(Kinematics(load_embodiment(EMBODIMENT)), period_s=1.0 / config.rate_hz)
    rows = [start[None]]
    for pose in pose_from_vector(wanted):
        rows.append(ik.solve(pose[None], rows[-1]))
    return np.concatenate(rows[1:])


def _stream(
    config: UrConfig,
    path: Path,
    times_s: Array,
    joints: Array,
    lateness: LatenessSummary,
) -> _Stream:
    """Returns the lag [s] that fits best (least squares), and the errors [m or rad] then."""
    counted = times_s > _SETTLING_S
    places = joints if config.action == "joint" else _poses(joints)[:, :3]

    def errors(lag_s: float) -> Array:
        wanted = path(times_s[counted] - lag_s)[:, : places.shape[1]]
        return np.linalg.norm(places[counted] - wanted, axis=1)

    lags_s = np.arange(0.0, _LARGEST_LAG_S, 0.001).tolist()
    lag_s = min(lags_s, key=lambda lag_s: float(np.square(errors(lag_s)).sum()))
    error = errors(lag_s)
    return _Stream(float(error.max()), float(np.percentile(error, 99)), lag_s, lateness)


def _served(summary: LatenessSummary) -> float:
    """Returns the share of deadlines that were served by a tick of their own."""
    return 1.0 - summary.skipped / summary.ticks
