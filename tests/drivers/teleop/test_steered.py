"""From a device to a robot's targets: clutch, grippers, several tools, and what cannot be steered."""

from dataclasses import dataclass

import numpy as np
import pytest
from emulators.hid_puck import HidPuck
from hypothesis import given
from hypothesis import strategies as st
from practice_arm import PracticeArmConfig

from robopolicy_datasets.errors import ConfigError, DeviceError, SpecError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.arms.arm import Arm
from robopolicy_drivers.composition import CompositeRobot
from robopolicy_drivers.runtime.take_over import TakeOver
from robopolicy_drivers.teleop.configs import Button, SpaceMouseConfig
from robopolicy_drivers.teleop.layout import action_parts, measured_target
from robopolicy_drivers.teleop.operator import TeleopOperator
from robopolicy_drivers.teleop.steered import SteeredTeleop
from robopolicy_drivers.teleop.steering import BUTTONS, NewPresses, PressCounter, Steering
from robopolicy_drivers.teleop.target import view_axes


@dataclass
class Disconnected:
    """A robot of which only what it takes is known."""

    spec: Spec
    openings: tuple[float, float] | None = None


def robot_of(kind, size, openings=None):
    return Disconnected(Spec((), (Feature("action", (size,), kind=kind),)), openings)


def arm(action="pose"):
    return Arm(PracticeArmConfig(folder="nowhere", action=action))


def gripper(widest=0.08):
    observation = (Feature("robot0_gripper_width", (1,), kind="width", unit="m"),)
    spec = Spec(observation, (Feature("action", (1,), kind="width", unit="m"),))
    return Disconnected(spec, (0.01, widest))


class ScriptedDevice:
    """In the place of a device: what it says, in turn; the last for ever. An error is raised."""

    def __init__(self, *script):
        self.script = list(script)

    def steering(self):
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, Exception):
            raise step
        return step


def saying(twist=(0, 0, 0, 0, 0, 0), engaged=True, **presses):
    counts = np.array([presses.get(button.value, 0) for button in BUTTONS])
    return Steering(np.array(twist, float), engaged, counts)


def teleop_on(robot, *script, **settings):
    teleop = SteeredTeleop(SpaceMouseConfig(**settings), robot)
    teleop._device = ScriptedDevice(*script)
    teleop._new_presses = NewPresses()
    return teleop


def state_of(robot, target):
    """What a robot measures that is where it was told to be."""
    state = {}
    for part in action_parts(robot):
        values = np.asarray(target)[part.span]
        if part.kind == "pose":
            state[f"robot{part.number}_eef_pos"] = values[:3]
            state[f"robot{part.number}_eef_rot_axis_angle"] = values[3:]
        else:
            state[f"robot{part.number}_{'gripper_width' if part.kind == 'width' else 'joint_pos'}"] = values
    return state


def driven(teleop, robot, last, steps):
    """Lets a robot that follows at once be driven for some steps; returns all targets."""
    targets = []
    for _ in range(steps):
        teleop.poll()
        last = teleop.command(state_of(robot, last), last)
        targets.append(last)
    return targets


TWO_ARMS = CompositeRobot([arm(), gripper(), arm()])
START = np.array([0.4, 0.1, 0.3, 0.0, np.pi / 2, 0.0, 0.05, 0.4, -0.3, 0.3, np.pi, 0.0, 0.0])


@pytest.mark.parametrize(
    ("robot", "expected"),
    [
        (robot_of("pose_width", 14), [("pose", 0, 0), ("width", 0, 6), ("pose", 1, 7), ("width", 1, 13)]),
        (robot_of("pose", 6), [("pose", 0, 0)]),
        (robot_of("joint", 7), [("joint", 0, 0)]),
        (TWO_ARMS, [("pose", 0, 0), ("width", 0, 6), ("pose", 1, 7)]),
        (CompositeRobot([arm("joint"), gripper()]), [("joint", 0, 0), ("width", 0, 6)]),
        (robot_of("generic", 6, openings=(0.0, 0.1)), [("joint", 0, 0), ("width", 0, 5)]),
        (
            CompositeRobot([arm(), CompositeRobot([arm(), gripper()])]),
            [("pose", 0, 0), ("pose", 1, 6), ("width", 1, 12)],
        ),
    ],
)
def test_an_action_is_split_into_its_parts(robot, expected):
    parts = action_parts(robot)
    assert [(part.kind, part.number, part.span.start) for part in parts] == expected
    assert parts[-1].span.stop == robot.spec.action[0].size
    target = np.linspace(0.1, 0.9, robot.spec.action[0].size)
    np.testing.assert_allclose(measured_target(parts, state_of(robot, target)), target)


def test_what_nobody_can_steer_is_refused():
    with pytest.raises(SpecError, match="cannot steer"):
        action_parts(robot_of("generic", 4))
    with pytest.raises(SpecError, match=r"does not measure robot0_eef_pos"):
        measured_target(action_parts(robot_of("pose", 6)), {"robot0_joint_pos": np.zeros(6)})
    with pytest.raises(ConfigError, match=r"takes joint.*action=pose.*teleop=leader"):
        SteeredTeleop(SpaceMouseConfig(), arm("joint"))
    with pytest.raises(ConfigError, match="takes width"):
        SteeredTeleop(SpaceMouseConfig(), gripper())


def test_with_an_open_clutch_the_target_is_the_last_one():
    push = saying([1, 0, 0, 0, 0, 0], engaged=False)
    teleop = teleop_on(TWO_ARMS, push)
    for target in driven(teleop, TWO_ARMS, START, 5):
        np.testing.assert_allclose(target, START, atol=1e-12)


@given(st.floats(-np.pi, np.pi))
def test_a_push_away_goes_where_the_person_looks(yaw):
    teleop = teleop_on(TWO_ARMS, saying([1, 0, 0, 0, 0, 0]), view_yaw=yaw)
    moved = driven(teleop, TWO_ARMS, START, 20)[-1] - START
    direction = moved[:3] / np.linalg.norm(moved[:3])
    np.testing.assert_allclose(direction, [np.cos(yaw), np.sin(yaw), 0.0], atol=1e-6)
    np.testing.assert_array_equal(moved[7:], 0.0)  # the other arm stands
    np.testing.assert_allclose(view_axes(yaw) @ view_axes(yaw).T, np.eye(3), atol=1e-12)


def test_in_the_tools_frame_away_is_the_tools_x_axis():
    teleop = teleop_on(TWO_ARMS, saying([1, 0, 0, 0, 0, 0]), move_frame="tool")
    moved = driven(teleop, TWO_ARMS, START, 5)[-1] - START
    np.testing.assert_allclose(moved[:3] / np.linalg.norm(moved[:3]), [0, 0, -1], atol=1e-6)


def test_a_turn_in_the_view_is_about_the_persons_axes():
    from robopolicy_datasets.geometry import axis_angle_to_matrix, matrix_to_axis_angle

    teleop = teleop_on(TWO_ARMS, saying([0, 0, 0, 0, 0, 1]), turn_frame="view")
    end = driven(teleop, TWO_ARMS, START, 5)[-1]
    turned = axis_angle_to_matrix(end[3:6]) @ axis_angle_to_matrix(START[3:6]).T
    axis = matrix_to_axis_angle(turned)
    np.testing.assert_allclose(axis / np.linalg.norm(axis), [0, 0, 1], atol=1e-6)


def test_a_pause_of_the_caller_is_not_made_up_for(monkeypatch):
    from robopolicy_drivers.teleop import steered

    teleop = teleop_on(TWO_ARMS, saying([1, 0, 0, 0, 0, 0]), speed=0.2)
    state = state_of(TWO_ARMS, START)
    teleop.poll()
    teleop.command(state, START)
    later_ns = steered.now_ns() + 10**10
    monkeypatch.setattr(steered, "now_ns", lambda: later_ns)
    moved = teleop.command(state, START)[:3] - START[:3]
    assert np.linalg.norm(moved) <= 0.2 * steered.LONGEST_STEP_S + 0.01


def test_the_gripper_goes_to_its_own_limits_and_the_next_arm_is_steered():
    script = [saying(), saying(gripper=1), saying(gripper=2), saying([0, 1, 0, 0, 0, 0], gripper=2, next=1)]
    targets = driven(teleop_on(TWO_ARMS, saying(), *script), TWO_ARMS, START, 8)
    np.testing.assert_allclose([target[6] for target in targets[:4]], [0.05, 0.05, 0.01, 0.08])
    assert targets[-1][8] > START[8]
    np.testing.assert_allclose(targets[-1][:3], START[:3])


def test_after_it_was_let_go_a_target_begins_where_the_robot_was_commanded():
    teleop = teleop_on(TWO_ARMS, saying([1, 0, 0, 0, 0, 0]))
    driven(teleop, TWO_ARMS, START, 3)
    teleop.let_go()
    elsewhere = START - 0.1
    np.testing.assert_allclose(teleop.command(state_of(TWO_ARMS, elsewhere), elsewhere), elsewhere, atol=1e-4)


@given(st.lists(st.frozensets(st.sampled_from(BUTTONS)), min_size=1, max_size=20))
def test_what_is_read_seldom_sees_every_button_that_went_down(downs):
    counter, seen = PressCounter(), NewPresses()
    assert not seen.of(counter.update(downs[0]))
    for down in downs:
        counts = counter.update(down)
    went_down = {
        button for before, now in zip([downs[0], *downs], downs, strict=False) for button in now - before
    }
    assert seen.of(counts) == went_down


# --- taking over --------------------------------------------------------------------------------------------


def operator_on(*script):
    operator = TeleopOperator(teleop_on(TWO_ARMS, *script))
    return operator, TakeOver(operator, len(START))


def asked(take_over, last=START):
    return take_over.ask(state_of(TWO_ARMS, last), last)


def test_one_press_takes_over_and_the_next_hands_back():
    first, second = saying([1, 0, 0, 0, 0, 0], take_over=1), saying([1, 0, 0, 0, 0, 0], take_over=2)
    operator, take_over = operator_on(saying(), saying(), first, first, second)
    assert asked(take_over) is None
    assert asked(take_over) is None
    np.testing.assert_allclose(asked(take_over), START, atol=1e-3)  # it begins where the robot is
    assert operator.driving
    assert asked(take_over) is not None
    assert asked(take_over) is None
    assert not operator.driving


@pytest.mark.parametrize("button", [Button.SUCCESS, Button.DISCARD, Button.END])
def test_a_person_ends_an_episode(button):
    operator, take_over = operator_on(saying(), saying(**{button.value: 1}))
    assert asked(take_over) is None
    assert not operator.ended
    asked(take_over)
    assert operator.ended
    assert operator.success == (button is Button.SUCCESS)
    assert operator.wants_the_end == (button is Button.END)
    operator.begin_episode()
    assert not operator.ended


def test_a_device_that_is_lost_while_it_drives_leaves_the_robot_where_it_is(caplog):
    push = saying([1, 0, 0, 0, 0, 0], take_over=1)
    operator, take_over = operator_on(saying(), push, push, DeviceError("It was unplugged."))
    asked(take_over)
    asked(take_over)
    asked(take_over)
    for _ in range(3):
        np.testing.assert_array_equal(asked(take_over, START + 0.01), START + 0.01)
    assert operator.driving
    assert operator.lost == "It was unplugged."
    assert [record.message for record in caplog.records] == [
        "Teleoperation was lost, the robot holds: It was unplugged."
    ]


def test_a_device_that_is_lost_while_the_policy_drives_changes_nothing(caplog):
    _, take_over = operator_on(saying(), DeviceError("It was unplugged."))
    for _ in range(3):
        assert asked(take_over) is None
    assert "nobody can take over any more" in caplog.text


@pytest.mark.realtime
def test_a_device_whose_process_hangs_is_noticed(tmp_path, reaction):
    """Its process is stopped as by a debugger: no sample comes any more."""
    import os
    import signal

    puck = HidPuck(tmp_path)
    with SteeredTeleop(SpaceMouseConfig(path=str(puck.path)), TWO_ARMS) as teleop:
        assert teleop.poll() == frozenset()
        pid = teleop._device.pid
        os.kill(pid, signal.SIGSTOP)

        def is_told():
            try:
                teleop.poll()
            except DeviceError as error:
                return "said nothing" in str(error)
            return False

        reaction("a teleoperation process that hangs", is_told)
        os.kill(pid, signal.SIGCONT)
    puck.unplug()
