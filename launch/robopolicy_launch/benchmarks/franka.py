"""A Franka that is streamed to, beside franky's own trackers on the same paths.

The arm is franky-sim in a process of its own. Poses come at 100 Hz along a circle of 0.1 m/s, joint targets
at 1 kHz; errors are those that remain when the best constant lag is taken out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from robopolicy_datasets.clock import now_ns, ns_to_seconds, seconds_to_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.arms.arm import Arm
from robopolicy_drivers.arms.franka import FrankaConfig
from robopolicy_drivers.realtime.loop import DeadlineLoop
from robopolicy_drivers.realtime.scheduling import request_punctuality
from robopolicy_launch.benchmarks import Row
from robopolicy_launch.benchmarks._franka_peer import franka_peer

_RADIUS, _SPEED = 0.1, 0.1  # m, m/s
_SWING, _SWING_HZ = 0.2, 0.25  # rad
_AHEAD_S = 0.05  # how early a target is commanded
_GATHERING_S = 2.0  # not judged: the arm gathers speed
_LONGEST_LAG_S = 0.3

Array = NDArray[np.float64]
Path = Callable[[Array], Array]  # times since the start [N] [s] -> places [N, D]


@dataclass(frozen=True)
class Tracking:
    """How well a path was followed.

    Attributes:
        taken: share of the targets that the arm took.
        lag: of what was measured behind the path [ms].
        errors: distances that remain ``[N]``, in the unit of the path.
        late_p99: of the ticks of the loop that feeds the arm [ms].
    """

    taken: float
    lag: float
    errors: Array
    late_p99: float


def run(*, cartesian_s: float = 60.0, joint_s: float = 10.0, reference_s: float = 10.0) -> Iterator[Row]:
    """Streams poses, then joint positions.

    Args:
        cartesian_s: to stream poses for [s].
        joint_s: to stream joint positions for [s].
        reference_s: to spend on each reference [s].
    """
    with franka_peer() as host:
        poses = stream_poses(host, cartesian_s), _reference_poses(host, reference_s)
        yield from _rows("cartesian_100hz", "mm", *poses)
        joints = stream_joints(host, joint_s), _reference_joints(host, reference_s)
        yield from _rows("joint_1khz", "mrad", *joints)


def _rows(name: str, unit: str, ours: Tracking, reference: Tracking) -> Iterator[Row]:
    peer = "franky's tracker"
    yield Row(f"franka_{name}_taken", ours.taken, reference.taken, "share", peer)
    for what, choose in (("mean", np.mean), ("max", np.max)):
        error, other = (1e3 * float(choose(tracking.errors)) for tracking in (ours, reference))
        yield Row(f"franka_{name}_error_{what}", error, other, unit, peer)
    yield Row(f"franka_{name}_lag", ours.lag, reference.lag, "ms", peer)
    yield Row(f"franka_{name}_late_p99", ours.late_p99, reference.late_p99, "ms", peer)


def stream_poses(host: str, seconds: float) -> Tracking:
    """Streams poses along a circle at 100 Hz.

    Args:
        host: of the controller.
        seconds: how long [s].
    """
    with Arm(FrankaConfig(host=host)) as arm:
        state = arm.state()[1]
        place, turn = (state[f"robot0_eef_{what}"].astype(float) for what in ("pos", "rot_axis_angle"))
        path = circle(place)
        return follow(
            path,
            100.0,
            seconds,
            lambda places, at_ns: arm.command(np.concatenate([places, turn]), at_ns),
            lambda: _newest(arm, "robot0_eef_pos"),
            late_p99=lambda: arm.lateness().p99_ms,
        )


def stream_joints(host: str, seconds: float) -> Tracking:
    """Streams joint positions at 1 kHz; arguments as of ``stream_poses``."""
    with Arm(FrankaConfig(host=host, action="joint", rate_hz=1000.0)) as arm:
        path = swing(arm.state()[1]["robot0_joint_pos"].astype(float))
        return follow(
            path,
            1000.0,
            seconds,
            arm.command,
            lambda: _newest(arm, "robot0_joint_pos"),
            late_p99=lambda: arm.lateness().p99_ms,
        )


def _reference_poses(host: str, seconds: float) -> Tracking:
    import franky

    robot = franky.Robot(host, realtime_config=franky.RealtimeConfig.Ignore)
    pose = robot.current_pose.end_effector_pose
    with franky.CartesianImpedanceTracker(robot) as tracker:
        return follow(
            circle(pose.translation),
            100.0,
            seconds,
            lambda place, _: tracker.set_target(franky.Affine(place, pose.quaternion)),
            lambda: (now_ns(), robot.current_pose.end_effector_pose.translation),
        )


def _reference_joints(host: str, seconds: float) -> Tracking:
    import franky

    robot = franky.Robot(host, realtime_config=franky.RealtimeConfig.Ignore)
    start = robot.current_joint_positions
    with franky.JointImpedanceTracker(robot, stiffness=FrankaConfig().stiffness) as tracker:
        return follow(
            swing(start),
            1000.0,
            seconds,
            lambda joints, _: tracker.set_target(joints),
            lambda: (now_ns(), robot.current_joint_positions),
        )


def circle(start: Array) -> Path:
    """Returns a horizontal circle of 0.1 m through ``start [3]``, at 0.1 m/s once it has gathered speed."""

    def path(times: Array) -> Array:
        angle = _SPEED / _RADIUS * _gathered(times)
        around = np.stack([np.cos(angle) - 1.0, np.sin(angle), np.zeros_like(angle)], axis=-1)
        return start + _RADIUS * around

    return path


def swing(start: Array) -> Path:
    """Returns a swing of all joints about ``start [J]``, by 0.2 rad at 0.25 Hz."""

    def path(times: Array) -> Array:
        return start + _SWING * np.sin(2 * np.pi * _SWING_HZ * _gathered(times))[:, None]

    return path


def _gathered(times: Array) -> Array:
    """Returns times that run slowly at first, and none before 0."""
    since = np.maximum(times, 0.0)
    return since - 1.0 + np.exp(-since)


def follow(
    path: Path,
    rate_hz: float,
    seconds: float,
    command: Callable[[Array, int], object],
    measure: Callable[[], tuple[int, Array]],
    late_p99: Callable[[], float] | None = None,
) -> Tracking:
    """Commands the places of a path, each a little before its time, and measures where the arm is.

    Args:
        path: to follow.
        rate_hz: of the commands.
        seconds: how long [s].
        command: takes a place ``[D]`` and the time at which the arm is to be there [ns, monotonic].
        measure: returns a time [ns, monotonic] and the place ``[D]``.
        late_p99: of the loop that feeds the arm [ms]; None where it is the one of the commands.
    """
    request_punctuality()
    loop, places = DeadlineLoop(rate_hz), path(np.arange(round(seconds * rate_hz)) / rate_hz)
    ahead_ns, taken = seconds_to_ns(_AHEAD_S), 0
    seen: list[tuple[int, Array]] = []
    loop.wait()
    start_ns = loop.deadline_ns + ahead_ns
    for place in places:
        with suppress(DeviceError):
            command(place, loop.deadline_ns + ahead_ns)
            taken += 1
        seen.append(measure())
        loop.wait()
    late = loop.statistics.summary().p99_ms if late_p99 is None else late_p99()
    times = np.array([ns_to_seconds(time_ns - start_ns) for time_ns, _ in seen])
    lag_s, errors = judged(path, times, np.array([place for _, place in seen]))
    return Tracking(taken / len(places), 1e3 * lag_s, errors, late)


def judged(path: Path, times: Array, measured: Array) -> tuple[float, Array]:
    """Returns the lag [s] with the smallest mean error, and the distances that remain with it.

    Args:
        path: that was to be followed.
        times: of the measurements since its start ``[N]`` [s].
        measured: places ``[N, D]``.
    """
    steady = times > _GATHERING_S

    def distances(lag_s: float) -> Array:
        return np.linalg.norm(measured[steady] - path(times[steady] - lag_s), axis=-1)

    best = minimize_scalar(
        lambda lag_s: float(distances(lag_s).mean()), bounds=(-_AHEAD_S, _LONGEST_LAG_S), method="bounded"
    )
    return float(best.x), distances(best.x)


def _newest(arm: Arm, key: str) -> tuple[int, Array]:
    time_ns, state = arm.state()
    return time_ns, state[key].astype(float)
