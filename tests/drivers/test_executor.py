"""The executor on a small kinematic robot that runs in real time, with policies of any latency."""

import threading
import time

import numpy as np
import pytest

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import ConfigError, DeviceError, RobopolicyError, SpecError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.realtime.interpolator import WaypointInterpolator, WaypointPart
from robopolicy_drivers.realtime.statistics import LatenessStatistics
from robopolicy_drivers.runtime import executor, inference
from robopolicy_drivers.runtime.executor import MAX_OBSERVATION_AGE_S, run_episode

POSITION = Feature("robot0_eef_pos", (2,), "float64", kind="position", unit="m")
ACTION = Feature("action", (2,), "float64", kind="position", unit="m")
IMAGE = Feature("camera0_rgb", (4, 4, 3), "uint8", kind="rgb")
STEP_M = 0.02


class PointRobot:
    """A point that is exactly where its trajectory says, without a process: the executor is under test."""

    spec = Spec((POSITION,), (ACTION,))

    def __init__(self):
        self.trajectory = WaypointInterpolator(np.zeros(2), (WaypointPart(2, 1.0),))
        self.commands = []
        self.held, self.stopped = 0, []

    def state(self):
        now = now_ns()
        return now, {"robot0_eef_pos": self.trajectory.evaluate(now)}

    def command(self, target, at_ns):
        self.commands.append((now_ns(), target.copy(), at_ns))
        self.trajectory.schedule(target, at_ns, now_ns())
        return target

    def hold(self):
        self.held += 1
        self.trajectory.hold(now_ns())

    def stop(self, reason):
        self.stopped.append(reason)
        self.trajectory.hold(now_ns())


class StillCamera:
    spec = Spec((IMAGE,), ())

    def __init__(self, age_s=0.0):
        self.age_s = age_s

    def read(self):
        return now_ns() - seconds_to_ns(self.age_s), {"camera0_rgb": np.zeros((4, 4, 3), np.uint8)}


class TowardsGoal:
    """Feedback: from where the point was seen, straight to the goal at a bounded speed."""

    observation_steps = 2
    action_steps = 4
    dt = 0.05
    goal = np.array([0.4, -0.3])

    def __init__(self, latency_s=0.0, keys=(POSITION,)):
        self.spec = Spec(keys, (ACTION,))
        self.latency_s = latency_s
        self.shapes = set()
        self.calls = []
        self.running = 0

    def reset(self):
        self.calls.clear()

    def infer(self, observation, *, seeds=None):
        self.running += 1
        assert self.running == 1
        self.calls.append(seeds)
        self.shapes |= {(key, value.shape) for key, value in observation.items()}
        latency_s = self.latency_s() if callable(self.latency_s) else self.latency_s
        time.sleep(latency_s)
        here = observation["robot0_eef_pos"][0, -1]
        way = self.goal - here
        shares = np.minimum(np.arange(1, 17) * STEP_M / max(np.linalg.norm(way), 1e-9), 1.0)
        self.running -= 1
        return (here + shares[:, None] * way)[None]


@pytest.mark.parametrize("latency_s", [0.0, 0.02, 0.04, 0.1, 0.3])
def test_the_goal_is_reached_straight_and_without_freezing_at_any_latency(latency_s):
    robot, policy = PointRobot(), TowardsGoal(latency_s)
    records = []
    report = run_episode(robot, [], policy, duration_s=3.0, seed=7, recorder=records.append)
    end = robot.trajectory.evaluate(now_ns())
    assert np.linalg.norm(end - policy.goal) < 0.002
    path = np.array([record.observation["robot0_eef_pos"] for record in records])
    to_line = path @ np.array([0.6, 0.8])
    assert np.abs(to_line).max() < 1e-6
    along = path @ np.array([0.8, -0.6])
    assert along.max() < 0.5 + 1e-6
    assert (np.diff(along) > -STEP_M).all()
    assert report.steps + report.skipped == 60
    assert report.actions + report.holds + report.waiting == report.steps == len(records)
    assert len(report.inference_s) >= 5
    assert (robot.held, robot.stopped) == (1, [])


def test_a_short_latency_loses_no_row():
    robot, policy = PointRobot(), TowardsGoal(0.001)
    report = run_episode(robot, [], policy, duration_s=1.0)
    if report.executor.max_ms < 10 and report.inference_s.max() < 0.02:
        assert report.dropped_rows == report.holds == report.waiting == 0
        assert report.actions == report.steps == 20


def test_a_stalled_policy_means_hold_then_resume():
    latencies = iter([0.0, 0.0, 0.0, 1.5])
    robot, policy = PointRobot(), TowardsGoal(lambda: next(latencies, 0.0))
    records = []
    report = run_episode(robot, [], policy, duration_s=3.0, recorder=records.append)
    statuses = [record.status for record in records]
    assert report.holds >= 5
    first, last = statuses.index("hold"), len(statuses) - 1 - statuses[::-1].index("hold")
    assert "fresh" in statuses[last + 1 :]
    held = [record.action for record in records[first:last] if record.status == "hold"]
    assert all((action == held[0]).all() for action in held)
    due_ns = [due for _, target, due in robot.commands if (target == held[0]).all()][-len(held) :]
    assert len(due_ns) == len(held)
    assert (np.diff(due_ns) > 0).all()  # each is a command for its own moment, none for one long past
    limit = policy.action_steps + 10
    assert max(record.action[0] for record in records) <= 0.4 + 1e-9
    assert last - first < len(statuses) - limit
    assert np.linalg.norm(robot.trajectory.evaluate(now_ns()) - policy.goal) < 0.002


def test_a_first_inference_that_hangs_is_told_as_that(monkeypatch):
    monkeypatch.setattr(executor, "FIRST_CHUNK_TIMEOUT_S", 0.1)
    monkeypatch.setattr(inference, "_CLOSE_TIMEOUT_S", 0.1)
    robot, policy = PointRobot(), TowardsGoal(0.6)
    with pytest.raises(RobopolicyError, match=r"gave no action within 0\.1 s; nothing was moved"):
        run_episode(robot, [], policy, duration_s=1.0)
    assert len(policy.calls) == 1
    assert robot.commands == []
    assert len(robot.stopped) == 1


def test_history_has_the_policy_s_shape_and_seeds_are_reproducible():
    policy = TowardsGoal(keys=(IMAGE, POSITION))
    run_episode(PointRobot(), [StillCamera()], policy, duration_s=0.5, seed=3)
    assert policy.shapes == {("camera0_rgb", (1, 2, 4, 4, 3)), ("robot0_eef_pos", (1, 2, 2))}
    again = TowardsGoal(keys=(IMAGE, POSITION))
    run_episode(PointRobot(), [StillCamera()], again, duration_s=0.5, seed=3)
    assert policy.calls[0] == again.calls[0]
    assert all(len(seeds) == 1 for seeds in policy.calls)
    unseeded = TowardsGoal()
    run_episode(PointRobot(), [], unseeded, duration_s=0.2)
    assert unseeded.calls[0] is None


def test_what_comes_next_is_commanded_too_and_replaced_by_the_step_itself():
    """A row of a newer chunk has another due time; both together would be a detour."""
    robot, records = PointRobot(), []
    run_episode(robot, [], TowardsGoal(0.01), duration_s=1.0, recorder=records.append)
    assert len(robot.commands) > 1.8 * len(records)
    pending = []
    for _, _, due in robot.commands:
        pending = [time for time in pending if time < due] + [due]
        gaps = np.diff(pending[-3:])
        assert (gaps > 0.4 * seconds_to_ns(TowardsGoal.dt)).all()


def test_stop_when_ends_the_episode():
    robot, records = PointRobot(), []
    report = run_episode(
        robot,
        [],
        TowardsGoal(),
        duration_s=30.0,
        stop_when=lambda: len(records) >= 5,
        recorder=records.append,
    )
    assert report.success
    assert report.steps == 5
    assert (robot.held, robot.stopped) == (1, [])


def test_ticks_of_the_robot_are_counted_once_in_all_episodes():
    class CountingRobot(PointRobot):
        """Counts since it was connected, one tick a command."""

        def __init__(self):
            super().__init__()
            self.statistics = LatenessStatistics()

        def command(self, target, at_ns):
            self.statistics.add(20_000_000)
            return super().command(target, at_ns)

        def lateness(self):
            return self.statistics.summary()

    robot = CountingRobot()
    counts, reports = [], []
    for _ in range(3):
        reports.append(run_episode(robot, [], TowardsGoal(), duration_s=0.3))
        counts.append(len(robot.commands) - sum(counts))
    assert min(counts) >= 6
    assert [report.robot.late_10ms for report in reports] == counts


def test_an_error_of_the_policy_stops_the_robot_and_surfaces():
    robot, policy = PointRobot(), TowardsGoal()
    count = iter(range(100))

    def fail_later():
        if next(count) == 3:
            raise ValueError("nan in layer 2")
        return 0.0

    policy.latency_s = fail_later
    with pytest.raises(RobopolicyError, match="ValueError: nan in layer 2"):
        run_episode(robot, [], policy, duration_s=5.0)
    assert len(robot.stopped) == 1
    assert "ValueError: nan in layer 2" in robot.stopped[0]
    assert not [thread for thread in threading.enumerate() if thread.name == "policy"]


def test_a_chunk_of_nan_stops_the_robot():
    robot, policy = PointRobot(), TowardsGoal()
    policy.goal = np.array([np.nan, 0.0])
    with pytest.raises(SpecError, match="NaN"):
        run_episode(robot, [], policy, duration_s=5.0)
    assert robot.commands == []
    assert len(robot.stopped) == 1


def test_an_error_of_the_robot_surfaces():
    robot = PointRobot()

    def broken(target, at_ns):
        raise DeviceError("The cable is out.")

    robot.command = broken
    with pytest.raises(DeviceError, match="cable"):
        run_episode(robot, [], TowardsGoal(), duration_s=5.0)


def test_a_frozen_camera_stops_the_robot():
    robot = PointRobot()
    with pytest.raises(DeviceError, match="observation is"):
        run_episode(robot, [StillCamera(2 * MAX_OBSERVATION_AGE_S)], TowardsGoal(), duration_s=5.0)
    assert len(robot.stopped) == 1


def test_what_does_not_fit_is_refused_before_anything_moves():
    robot = PointRobot()
    with pytest.raises(SpecError, match="camera0_rgb"):
        run_episode(robot, [], TowardsGoal(keys=(IMAGE, POSITION)), duration_s=1.0)
    with pytest.raises(ConfigError, match="duration_s"):
        run_episode(robot, [], TowardsGoal(), duration_s=0.0)
    assert robot.commands == []
    assert (robot.held, robot.stopped) == (0, [])
