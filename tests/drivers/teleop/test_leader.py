"""A leader arm leads joints or a tool, and never makes the robot jump."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from device_targets import wait_until
from hypothesis import given
from hypothesis import strategies as st
from practice_arm import PracticeArmConfig
from practice_leader import PracticeLeaderConfig

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import ConfigError, DeviceError, SpecError, UnknownNameError
from robopolicy_datasets.geometry import pose_from_vector, pose_to_vector
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.arms.arm import Arm
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_drivers.runtime.spaces import FeatureSpace
from robopolicy_drivers.teleop import approach
from robopolicy_drivers.teleop.approach import Approach
from robopolicy_drivers.teleop.configs import Button, LeaderConfig
from robopolicy_drivers.teleop.leader import Follow, LeaderTeleop
from robopolicy_drivers.teleop.steering import BUTTONS, Steering

pytestmark = pytest.mark.realtime

HOME = load_embodiment("ur5e").home_positions


class Buttons:
    """In the place of the device with the buttons."""

    def __init__(self):
        self.counts = np.zeros(len(BUTTONS), np.int64)

    def connect(self):
        pass

    def close(self):
        pass

    def press(self, button):
        self.counts[BUTTONS.index(button)] += 1

    def steering(self):
        return Steering(np.zeros(6), True, self.counts.copy())


class Hand:
    """Moves the leader."""

    def __init__(self, file):
        self.file = file

    def move(self, joints, width=0.02):
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({"joints": list(map(float, joints)), "width": width}))
        new.replace(self.file)


@pytest.fixture
def hand(tmp_path):
    hand = Hand(tmp_path / "leader.json")
    hand.move(HOME)
    return hand


@pytest.fixture
def led(hand, tmp_path):
    """``led(robot)`` returns a connected leader of a robot; its buttons are scripted."""
    teleops = []

    def lead(robot, **settings):
        teleop = LeaderTeleop(PracticeLeaderConfig(port=str(hand.file), **settings), robot)
        teleop._buttons = Buttons()
        teleops.append(teleop)
        teleop.connect()
        return teleop

    yield lead
    for teleop in teleops:
        teleop.close()


def arm(folder="nowhere", action="joint"):
    return Arm(PracticeArmConfig(folder=str(folder), action=action))


def commanded(teleop, last):
    teleop.poll()
    return teleop.command({}, last)


def reads(teleop, joints):
    """Whether the leader's newest sample is of these joints."""
    teleop.poll()
    return np.allclose(teleop._sample["joints"], joints)


def test_the_robot_waits_until_the_leader_is_near_and_then_follows(hand, led):
    teleop = led(arm())
    far = HOME + 0.5
    for _ in range(3):
        np.testing.assert_array_equal(commanded(teleop, far), far)
    assert teleop.follow is Follow.WAITING
    near = far + 0.05
    hand.move(near)
    assert wait_until(lambda: reads(teleop, near))
    last = far
    while teleop.follow is not Follow.FOLLOWING:
        target = commanded(teleop, last)
        assert np.abs(target - last).max() <= 0.4 * approach.LONGEST_STEP_S + 1e-9
        last = target
    np.testing.assert_allclose(last, near, atol=2e-3)
    hand.move(HOME)  # from now on it follows wherever the leader goes
    assert wait_until(lambda: reads(teleop, HOME))
    np.testing.assert_allclose(commanded(teleop, near), HOME)
    teleop.let_go()
    np.testing.assert_allclose(commanded(teleop, far), far)


def test_a_gripper_follows_once_the_leaders_grip_has_passed_its_opening(hand, led):
    teleop = led(robot_of("generic", 7, openings=(0.0, 0.1)))
    held = np.array([*HOME, 0.01])  # the robot holds something; the leader's grip is wider
    assert wait_until(lambda: commanded(teleop, held) is not None and teleop.follow is Follow.FOLLOWING)
    for width, expected in ((0.05, 0.01), (0.014, 0.01), (0.008, 0.008), (0.03, 0.03)):
        hand.move(HOME, width)

        def is_read(width=width):
            teleop.poll()
            return teleop._sample["width"][0] == width

        assert wait_until(is_read)
        held = teleop.command({}, held)
        assert held[6] == pytest.approx(expected)


def test_one_press_lets_the_robot_come_slowly_and_the_next_lets_it_hold(led):
    teleop = led(arm(), near=0.01)
    teleop.poll()
    last = HOME + 0.1
    teleop._buttons.press(Button.NEXT)
    steps = []
    begun = now_ns()
    while teleop.follow is not Follow.FOLLOWING:
        target = commanded(teleop, last)
        steps.append(np.abs(target - last).max())
        last = target
        assert now_ns() - begun < seconds_to_ns(60)
    speed = teleop._config.approach_speed
    assert max(steps) <= speed * approach.LONGEST_STEP_S + 1e-9
    assert now_ns() - begun >= seconds_to_ns(0.9 * 0.1 / speed)
    np.testing.assert_allclose(last, HOME, atol=2e-3)
    teleop._buttons.press(Button.NEXT)
    for _ in range(2):
        np.testing.assert_array_equal(commanded(teleop, HOME + 0.3), HOME + 0.3)


def test_a_tool_moves_as_the_leaders_tool_does_from_where_it_is(hand, led):
    teleop = led(arm(action="pose"))
    kinematics = Kinematics(load_embodiment("ur5e"))
    start = pose_to_vector(kinematics.forward(HOME)) + np.array([0.1, 0.2, 0.0, 0.0, 0.0, 0.0])
    np.testing.assert_array_equal(commanded(teleop, start), start)  # it holds until it is told to follow
    teleop._buttons.press(Button.NEXT)
    np.testing.assert_allclose(commanded(teleop, start), start, atol=1e-9)
    moved = HOME + np.array([0.1, 0.05, 0.0, -0.1, 0.0, 0.2])
    hand.move(moved)
    assert wait_until(lambda: reads(teleop, moved))
    target = pose_from_vector(commanded(teleop, start))
    before, after = kinematics.forward(HOME), kinematics.forward(moved)
    np.testing.assert_allclose(target[:3, 3] - start[:3], after[:3, 3] - before[:3, 3], atol=1e-6)
    turned, led_turn = target[:3, :3], after[:3, :3] @ before[:3, :3].T
    np.testing.assert_allclose(turned, led_turn @ pose_from_vector(start)[:3, :3], atol=1e-6)
    assert not np.allclose(led_turn, np.eye(3), atol=1e-3)


def test_a_real_arm_follows_in_its_own_process(hand, led, tmp_path):
    """The arm's driver, its gate and its process are the real ones; its link is a few lines of Python."""
    with arm(tmp_path) as robot:
        teleop = led(robot)
        last = robot.state()[1]["robot0_joint_pos"]
        goal = HOME + np.array([0.2, 0.0, 0.1, 0.0, 0.0, -0.3])

        def is_there():
            nonlocal last
            teleop.poll()
            last = robot.command(teleop.command(robot.state()[1], last), now_ns() + seconds_to_ns(0.05))
            return np.allclose(robot.state()[1]["robot0_joint_pos"], goal, atol=1e-3)

        is_there()  # near: it follows from here
        hand.move(goal)
        assert wait_until(is_there, pause_s=0.02)


def test_a_cut_cable_is_told(hand, led, reaction):
    teleop = led(arm())
    hand.file.unlink()

    def is_told():
        try:
            teleop.poll()
        except DeviceError as error:
            return "plug in its cable" in str(error)
        return False

    reaction("a leader arm whose cable is cut", is_told)


@dataclass
class Disconnected:
    """A robot of which only what it takes is known."""

    spec: Spec
    openings: tuple[float, float] | None = None


def robot_of(kind, size, openings=None):
    return Disconnected(Spec((), (Feature("action", (size,), kind=kind),)), openings)


@pytest.mark.parametrize(("kind", "size"), [("joint", 7), ("width", 1), ("pose_width", 14)])
def test_robots_that_it_cannot_lead_are_refused(kind, size):
    with pytest.raises(SpecError, match="can lead one arm with as many joints"):
        LeaderTeleop(PracticeLeaderConfig(), robot_of(kind, size))


def test_settings_out_of_range_are_refused():
    with pytest.raises(UnknownNameError, match="keyboard"):
        LeaderConfig(buttons="keybord")
    with pytest.raises(ConfigError, match="above 0"):
        LeaderConfig(near=0.0)


joints = st.lists(st.floats(-3, 3), min_size=6, max_size=6).map(np.array)


@given(joints, joints)
def test_an_approach_is_straight_and_never_longer_than_its_speed_allows(start, goal):
    space = FeatureSpace((Feature("action", (6,), kind="joint"),))
    slow = Approach(space, 0.1, 0.4)
    target = slow.toward(goal, start)
    assert np.abs(target - start).max() <= 0.4 * approach.LONGEST_STEP_S + 1e-9
    way = goal - start
    if np.linalg.norm(way) > 1e-6:
        share = (target - start) @ way / (way @ way)
        np.testing.assert_allclose(target - start, share * way, atol=1e-9)
        assert 0 <= share <= 1 + 1e-9
