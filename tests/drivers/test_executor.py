"""The executor on a small kinematic robot that runs in real time, with policies of any latency."""

import threading

import numpy as np
import pytest
from runtime_targets import IMAGE, POSITION, STEP_M, PointRobot, StillCamera, TowardsGoal

from robopolicy_datasets.clock import NANOSECONDS, now_ns, seconds_to_ns
from robopolicy_datasets.errors import ConfigError, DeviceError, RobopolicyError, SpecError
from robopolicy_drivers.interfaces import Prefix
from robopolicy_drivers.realtime.statistics import LatenessStatistics
from robopolicy_drivers.runtime import executor, inference
from robopolicy_drivers.runtime.configs import RuntimeConfig
from robopolicy_drivers.runtime.executor import run_episode
from robopolicy_drivers.runtime.observer import MAX_OBSERVATION_AGE_S

pytestmark = pytest.mark.realtime


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
    assert report.steps + report.skipped >= 60  # more where the machine stalls at the end
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


def test_commands_are_given_for_as_much_earlier_as_the_robot_is_late():
    ahead_s = []
    for latency_s in (0.0, 0.03):
        robot = PointRobot()
        run_episode(
            robot, [], TowardsGoal(), duration_s=1.0, runtime=RuntimeConfig(action_latency_s=latency_s)
        )
        # Half of the commands are for what is due; the others are previews, a step later.
        ahead_s.append(np.percentile([(due - now) / NANOSECONDS for now, _, due in robot.commands], 25))
    assert ahead_s[0] - ahead_s[1] == pytest.approx(0.03, abs=0.005)
    for wrong in (-0.1, np.inf):
        with pytest.raises(ConfigError, match="action_latency_s"):
            RuntimeConfig(action_latency_s=wrong)


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


class Continuing(TowardsGoal):
    """Keeps the prefixes that it is given."""

    takes_prefix = True

    def __init__(self, latency_s=0.0):
        super().__init__(latency_s)
        self.prefixes = []

    def infer(self, observation, *, seeds=None, prefix: Prefix | None = None):
        self.prefixes.append(prefix)
        return super().infer(observation, seeds=seeds)


@pytest.mark.parametrize(
    ("latency_s", "expected_s", "frozen"), [(0.0, 0.0, {0}), (0.12, 0.0, {3}), (0.0, 0.12, {3})]
)
def test_real_time_chunking_hands_over_what_will_be_played_and_for_how_long(latency_s, expected_s, frozen):
    robot, policy, records = PointRobot(), Continuing(latency_s), []
    report = run_episode(
        robot,
        [],
        policy,
        duration_s=2.0,
        recorder=records.append,
        runtime=RuntimeConfig(real_time_chunking=True, inference_latency_s=expected_s),
    )
    warm_up, first = policy.prefixes[1:3]
    assert len(warm_up.actions) == 16  # so that the first one that counts takes no longer than the others
    assert first is None  # nothing is played before the start
    given = [prefix for prefix in policy.prefixes[3:] if prefix is not None]
    assert len(given) >= 6
    for prefix in given:
        assert prefix.actions.shape[1] == 2
        assert 1 <= len(prefix.actions) < 16
    if report.executor.max_ms < 10 and max(abs(report.inference_s - latency_s)) < 0.02:
        assert {prefix.frozen for prefix in given[1:]} == frozen
        step = policy.action_steps  # of the first inference that could continue something
        planned = next(record for record in records if record.step == step)
        if latency_s:
            np.testing.assert_array_equal(given[0].actions[0], planned.action)


def test_settings_that_do_not_fit_are_refused_before_anything_moves():
    robot = PointRobot()
    for settings, message in (
        ({"real_time_chunking": True}, "TowardsGoal takes no prefix"),
        ({"blending": "newst"}, "Did you mean 'newest'"),
        ({"latencies_s": {"robot0_eef_ps": 0.1}}, "robot0_eef_pos"),
    ):
        with pytest.raises(ConfigError, match=message):
            run_episode(robot, [], TowardsGoal(), duration_s=1.0, runtime=RuntimeConfig(**settings))
    with pytest.raises(ConfigError, match=r"runtime\.hold_s"):
        RuntimeConfig(hold_s=0.0)
    assert robot.commands == []


def test_ensembled_chunks_reach_the_goal_too():
    robot, policy = PointRobot(), TowardsGoal(0.02)
    report = run_episode(robot, [], policy, duration_s=3.0, runtime=RuntimeConfig(blending="ensemble"))
    assert np.linalg.norm(robot.here() - policy.goal) < 0.005
    assert report.holds + report.retreats == 0
    np.testing.assert_array_equal(report.last_target, robot.commands[-1][1])


def test_a_policy_that_stays_silent_brings_the_robot_back_along_its_way():
    latencies = iter([0.0, 0.0, 0.0, 2.5])
    robot, policy, records = PointRobot(), TowardsGoal(lambda: next(latencies, 0.0)), []
    report = run_episode(
        robot, [], policy, duration_s=4.0, recorder=records.append, runtime=RuntimeConfig(hold_s=0.5)
    )
    statuses = [record.status for record in records]
    first = statuses.index("retreat")
    assert report.retreats == statuses.count("retreat") > 5
    assert statuses[first - 1] == "hold"
    back = np.array([r.action for r in records[first - 1 :] if r.status in ("hold", "retreat")])
    to_start = np.linalg.norm(back, axis=1)
    assert (np.diff(to_start) <= 1e-9).all()
    there = np.array([record.action for record in records[:first] if record.status == "fresh"])
    speed = np.linalg.norm(np.diff(there, axis=0), axis=1).max()
    assert np.abs(np.diff(to_start)).max() <= speed / 2 + 1e-9
    assert np.abs(back @ np.array([0.6, 0.8])).max() < 1e-6  # on the way it came
    assert statuses[-1] == "fresh"
