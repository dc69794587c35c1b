"""Take-over: the clutch, and an operator who takes a robot from a running policy and hands it back."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_targets import DT_S, PointRobot, TowardsGoal
from scipy.spatial.transform import Rotation

from robopolicy_datasets.errors import SpecError
from robopolicy_datasets.spec import Feature
from robopolicy_drivers.runtime.executor import run_episode
from robopolicy_drivers.runtime.spaces import FeatureSpace
from robopolicy_drivers.runtime.take_over import Clutch

pytestmark = pytest.mark.realtime

POSE = FeatureSpace((Feature("action", (7,), kind="pose_width", unit="m, rad"),))
poses = st.lists(st.floats(-1, 1), min_size=7, max_size=7).map(np.array)


class ScriptedHand:
    def __init__(self, poses):
        self.poses = iter(poses)

    def pose(self):
        return next(self.poses)


@given(poses, poses, poses)
def test_the_target_moves_as_the_hand_does_from_wherever_both_were(start, end, last):
    clutch = Clutch(ScriptedHand([start, end]), POSE)
    first, second = clutch.command({}, last), clutch.command({}, first_is_ignored := np.zeros(7))
    assert not first_is_ignored.any()
    metres, radians = POSE.lengths(POSE.difference(last, first))
    assert metres < 1e-12
    assert radians < 1e-6
    assert first[6] == pytest.approx(last[6])
    np.testing.assert_allclose(second[:3] - first[:3], end[:3] - start[:3], atol=1e-12)
    turns = [Rotation.from_rotvec(pose[3:6]) for pose in (start, end, first, second)]
    hand, target = turns[1] * turns[0].inv(), turns[3] * turns[2].inv()  # in the robot's frame
    assert (hand.inv() * target).magnitude() < 1e-6


def test_a_gripper_waits_until_the_hand_s_width_has_passed_it():
    """The robot holds something; the hand is open: closing the hand must not open the gripper first."""
    widths = [0.08, 0.05, 0.03, 0.01, 0.06]
    hand = [np.array([0, 0, 0, 0, 0, 0, width]) for width in widths]
    clutch = Clutch(ScriptedHand([*hand, None, hand[0]]), POSE)
    last = np.array([0, 0, 0, 0, 0, 0, 0.02])
    assert [clutch.command({}, last)[6] for _ in widths] == [0.02, 0.02, 0.02, 0.01, 0.06]
    assert clutch.command({}, last) is None
    assert clutch.command({}, last)[6] == 0.02  # closed anew


class Shover:
    """Drives along y at control steps ``begin`` to ``end``, by a small way on from the last target."""

    def __init__(self, begin, end, way=(0.0, 0.01)):
        self.begin, self.end, self.way = begin, end, np.array(way)
        self.calls = itertools.count(1)  # nothing was commanded at step 0, so it is asked from step 1 on

    def command(self, state, last):
        assert "robot0_eef_pos" in state
        return last + self.way if self.begin <= next(self.calls) < self.end else None


@pytest.mark.parametrize("latency_s", [0.0, 0.12])
def test_a_person_takes_over_and_hands_back_without_a_jump(latency_s):
    robot, policy, records = PointRobot(), TowardsGoal(latency_s), []
    report = run_episode(robot, [], policy, duration_s=3.0, recorder=records.append, operator=Shover(8, 20))
    human = [record for record in records if record.status == "human"]
    assert len(human) == report.human >= 10
    targets = np.array([record.action for record in records if record.action is not None])
    assert np.linalg.norm(np.diff(targets, axis=0), axis=1).max() <= 1.5 * DT_S + 1e-9
    np.testing.assert_allclose(np.diff([r.action for r in human], axis=0), [[0.0, 0.01]] * (len(human) - 1))
    assert any(record.policy_action is not None for record in human)
    after = records[records.index(human[-1]) + 1 :]
    if latency_s:  # until the policy has seen where the person left the robot, it stays there
        assert after[0].status == "waiting"
        np.testing.assert_array_equal(after[0].action, human[-1].action)
    first = next(record for record in after if record.status == "fresh")
    assert np.linalg.norm(first.action - human[-1].action) < 2 * 0.02 * (1 + latency_s / DT_S)
    assert policy.resets == 3  # twice before the start, once at the hand-back
    np.testing.assert_allclose(robot.here(), policy.goal, atol=0.003)
    (event,) = report.events
    assert event.kind == "takeover"
    assert (event.start_ns, event.end_ns) == (human[0].time_ns, human[-1].time_ns)
    np.testing.assert_allclose(event.data["human"], [record.action for record in human])
    assert event.data["policy"] == [
        None if r.policy_action is None else r.policy_action.tolist() for r in human
    ]
    event.to_text()  # fit for a store


def test_an_inference_from_before_the_hand_back_is_never_played():
    """The policy thinks for long; the hand-back falls into an inference on what was before it."""
    robot, policy, records = PointRobot(), TowardsGoal(0.4), []
    run_episode(robot, [], policy, duration_s=2.5, recorder=records.append, operator=Shover(6, 14))
    last = max(record.step for record in records if record.status == "human")
    played = [record.step for record in records if record.step > last and record.status == "fresh"]
    assert played[0] >= last + 0.4 / DT_S  # a whole inference later at least


def test_a_person_is_limited_too_and_nonsense_is_refused():
    robot, records = PointRobot(), []
    run_episode(
        robot, [], TowardsGoal(), duration_s=0.5, recorder=records.append, operator=Shover(2, 4, (5.0, 0.0))
    )
    targets = np.array([record.action for record in records])
    assert np.linalg.norm(np.diff(targets, axis=0), axis=1).max() <= 1.5 * DT_S + 1e-9
    with pytest.raises(SpecError, match="operator's target"):
        run_episode(PointRobot(), [], TowardsGoal(), duration_s=1.0, operator=Shover(2, 9, (np.nan, 0.0)))
