"""The laws of composition, over robots that live in this process."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import ConfigError, DeviceError, SpecError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store.events import Event
from robopolicy_drivers.composition import CompositeRobot
from robopolicy_drivers.conformance import check_driver, check_sensor
from robopolicy_drivers.runtime.members import newest_of

POSE = (Feature("robot0_eef_pos", (3,), unit="m"), Feature("robot0_eef_rot_axis_angle", (3,), unit="rad"))
WIDTH = Feature("robot0_gripper_width", (1,), kind="width", unit="m")
WRENCH = Feature("robot0_wrench", (6,), kind="wrench", unit="N, N m", frame="robot0_tcp")


class Machine:
    """Remembers what is asked of it, and fails where it is told to."""

    def __init__(self, observation, action, time_ns=None, failing=()):
        self.spec = Spec(observation, action)
        self.time_ns, self.failing = time_ns, failing
        self.connected, self.stopped, self.calls, self.events = False, "", [], []
        self.values = {f.key: np.zeros(f.shape, f.dtype) for f in observation}

    def _called(self, name, *arguments):
        self.calls.append((name, *arguments))
        if name in self.failing:
            raise DeviceError(f"{name} fails")

    def connect(self):
        self._called("connect")
        self.connected = True

    def close(self):
        self._called("close")
        self.connected = False

    def newest(self):
        if not self.connected:
            raise DeviceError("It is not connected; call connect() first.")
        return (self.time_ns or now_ns()), dict(self.values)


class Sensor(Machine):
    read = Machine.newest


class Robot(Machine):
    state = Machine.newest

    def command(self, target, at_ns):
        self._called("command", list(target), at_ns)
        if self.stopped:
            raise DeviceError(f"It was stopped: {self.stopped}.")
        return (0.5 * target).astype(np.float32)

    def hold(self):
        self._called("hold")

    def stop(self, reason):
        self.stopped = reason
        self.events.append(Event("safety", now_ns(), now_ns(), reason))
        self._called("stop", reason)

    def release(self):
        self.stopped = ""
        self._called("release")

    def safety_events(self):
        return self.events

    def names(self):
        return [call[0] for call in self.calls]


class HomingRobot(Robot):
    def go_home(self):
        self._called("go_home")


def arm(**settings):
    action = Feature("action", (6,), kind="pose", unit="m, rad", rate_hz=20.0, frame="robot0_base")
    return Robot(POSE, (action,), **settings)


def gripper(**settings):
    return Robot((WIDTH,), (Feature("action", (1,), kind="width", unit="m", rate_hz=10.0),), **settings)


def arm_with_gripper(**settings):
    action = Feature("action", (7,), kind="pose_width", unit="m, rad", rate_hz=10.0, frame="world")
    return Robot((*POSE, WIDTH), (action,), **settings)


def sensor(**settings):
    return Sensor((WRENCH,), (), **settings)


MAKERS = {
    "a": [arm],
    "g": [arm, gripper],
    "w": [arm_with_gripper],
    "s": [arm, sensor],
    "f": [arm, gripper, sensor],
}
ROBOTS = st.text("agwsf", min_size=1, max_size=4)


def build(letters, times=()):
    parts = [make() for letter in letters for make in MAKERS[letter]]
    for part, time_ns in zip(parts, times, strict=False):
        part.time_ns = time_ns
    return parts


@given(ROBOTS)
def test_every_part_gets_its_share_and_what_was_sent_comes_back(letters):
    parts = build(letters)
    robots = [part for part in parts if isinstance(part, Robot)]
    with CompositeRobot(parts) as composite:
        size = composite.spec.action[0].size
        target = np.arange(size, dtype=float)
        sent = composite.command(target, 77)
    np.testing.assert_array_equal(sent, 0.5 * target)
    given_parts = [call[1:] for part in robots for call in part.calls if call[0] == "command"]
    assert [at_ns for _, at_ns in given_parts] == [77] * len(robots)
    assert [number for share, _ in given_parts for number in share] == list(target)
    shares = [composite.layout[name] for name in composite.layout]
    assert [target[share].tolist() for share in shares] == [share for share, _ in given_parts]


@given(ROBOTS, st.lists(st.integers(1, 10**15), min_size=12, max_size=12))
def test_a_state_has_all_keys_once_and_is_that_of_the_first_robot(letters, times):
    parts = build(letters, times)
    with CompositeRobot(parts) as composite:
        time_ns, state = composite.state()
        assert composite.state_at(5)[0] == time_ns
        measured = {member.name: newest_of(member.device)[0] for member in composite.members}
    assert time_ns == parts[0].time_ns
    assert list(measured.values()) == [part.time_ns for part in parts]
    keys = [feature.key for feature in composite.spec.observation]
    assert list(state) == keys
    assert len(keys) == sum(len(part.spec.observation) for part in parts)
    numbers = {int(key[5]) for key in keys}
    assert numbers == set(range(len(letters)))


@given(ROBOTS, ROBOTS)
def test_how_parts_are_grouped_changes_nothing(first, second):
    flat = CompositeRobot(build(first + second))
    nested = CompositeRobot([CompositeRobot(build(first)), CompositeRobot(build(second))])
    assert nested.spec == flat.spec


@given(ROBOTS, st.data())
def test_a_stop_reaches_all_whoever_fails(letters, data):
    parts = build(letters)
    robots = [part for part in parts if isinstance(part, Robot)]
    failing = data.draw(st.sets(st.sampled_from(range(len(robots)))))
    for index in failing:
        robots[index].failing = ("stop", "close")
    composite = CompositeRobot(parts)
    composite.connect()
    names = list(composite.layout)
    if failing:
        with pytest.raises(DeviceError, match="could not be stopped") as refusal:
            composite.stop("smoke")
        assert str(refusal.value).count("stop fails") == len(failing)
        assert all(f"{names[index]}: DeviceError" in str(refusal.value) for index in failing)
        with pytest.raises(DeviceError, match="could not be closed"):
            composite.close()
    else:
        composite.stop("smoke")
        composite.close()
    assert all(robot.stopped == "smoke" for robot in robots)
    assert all("close" in [call[0] for call in part.calls] for part in parts)


@given(ROBOTS, st.data())
def test_where_one_cannot_be_connected_none_stays_connected(letters, data):
    parts = build(letters)
    failing = data.draw(st.integers(0, len(parts) - 1))
    parts[failing].failing = ("connect",)
    with pytest.raises(DeviceError, match="connect fails"):
        CompositeRobot(parts).connect()
    assert not any(part.connected for part in parts)
    assert all(part.calls == [("connect",), ("close",)] for part in parts[:failing])
    assert all(part.calls == [] for part in parts[failing + 1 :])


@given(ROBOTS, st.data())
def test_a_command_that_one_refuses_is_done_by_none(letters, data):
    parts = build(letters)
    robots = [part for part in parts if isinstance(part, Robot)]
    refusing = data.draw(st.integers(0, len(robots) - 1))
    with CompositeRobot(parts) as composite:
        robots[refusing].stop("smoke")
        with pytest.raises(DeviceError, match="smoke"):
            composite.command(np.zeros(composite.spec.action[0].size), 1)
    assert all(robot.names()[-2:] == ["hold", "close"] for robot in robots[:refusing])
    assert all("command" not in robot.names() for robot in robots[refusing + 1 :])


def test_what_has_a_home_goes_there_one_after_another():
    action = (Feature("action", (6,), kind="pose", unit="m, rad"),)
    first, second, third = (HomingRobot(POSE, action, failing=failing) for failing in ((), ("go_home",), ()))
    with pytest.raises(DeviceError, match="go_home fails"):
        CompositeRobot([first, gripper(), CompositeRobot([second]), third]).go_home()
    assert [robot.names().count("go_home") for robot in (first, second, third)] == [1, 1, 0]


def test_two_arms_with_grippers_of_their_own_and_bought_ones_are_the_same_kind_of_robot():
    composite = CompositeRobot([arm_with_gripper(), arm(), gripper()])
    action = composite.spec["action"]
    assert (action.shape, action.kind, action.unit, action.rate_hz) == ((14,), "pose_width", "m, rad", 10.0)
    assert action.frame == ""  # one speaks of the world, the other of its base
    assert composite.layout == {
        "robot0": slice(0, 7),
        "robot1": slice(7, 13),
        "robot1_gripper": slice(13, 14),
    }
    assert composite.spec["robot1_gripper_width"].size == 1


def test_frames_are_renumbered_with_their_robots_and_one_robot_stays_as_it_is():
    composite = CompositeRobot([arm(), sensor(), arm(), sensor()])
    assert composite.spec["robot1_wrench"].frame == "robot1_tcp"
    assert CompositeRobot([arm()]).spec == arm().spec


def test_each_member_has_a_name_of_its_own_in_any_grouping():
    def cell(*cells):
        return CompositeRobot([*cells, arm(), gripper(), sensor()])

    nested = cell(cell(), cell())
    assert [member.name for member in nested.members] == [
        name
        for number in range(3)
        for name in (f"robot{number}", f"robot{number}_gripper", f"robot{number}_wrench")
    ]
    keys = [member.rename(f.key) for member in nested.members for f in member.device.spec.observation]
    assert keys == [feature.key for feature in nested.spec.observation]


def test_parts_are_seen_as_they_were_when_the_first_one_was():
    class Recalling(Sensor):
        def state_at(self, time_ns):
            return time_ns, {"robot0_wrench": np.full(6, time_ns, np.float32)}

    first, slow = arm(time_ns=1000), gripper(time_ns=10)
    with CompositeRobot([first, slow, Recalling((WRENCH,), (), time_ns=2000)]) as composite:
        time_ns, state = composite.state()
        assert (time_ns, state["robot0_wrench"][0]) == (1000, 1000)
        assert composite.state_at(700)[1]["robot0_wrench"][0] == 700


def test_different_actions_together_are_generic():
    slider = Robot((Feature("agent_pos", (2,)),), (Feature("action", (2,), kind="position", unit="m"),))
    assert CompositeRobot([arm(), slider]).spec["action"].kind == "generic"


def test_safety_events_come_in_the_order_of_time_and_name_their_robot():
    first, second = arm(), arm()
    first.events = [Event("safety", 5, 6, "late"), Event("safety", 9, 9, "last")]
    second.events = [Event("safety", 1, 2, "early", data={"limit": "velocity"})]
    events = CompositeRobot([first, second]).safety_events()
    assert [(event.text, event.data["robot"]) for event in events] == [
        ("early", "robot1"),
        ("late", "robot0"),
        ("last", "robot0"),
    ]
    assert events[0].data["limit"] == "velocity"


def test_a_wrong_target_is_not_sent_to_anybody():
    parts = [arm(), gripper()]
    with CompositeRobot(parts) as composite:
        for target in (np.zeros(6), np.full(7, np.nan)):
            with pytest.raises(SpecError, match=r"7 finite numbers .*robot0 \[0:6\], robot0_gripper \[6:7\]"):
                composite.command(target, 1)
    assert all("command" not in part.names() for part in parts)


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ([], ConfigError, "begins with a robot"),
        ([sensor(), arm()], ConfigError, "begins with a robot"),
        ([arm(), gripper(), gripper()], SpecError, "More than one gripper for one arm"),
        ([arm(), sensor(), sensor()], SpecError, "robot0_wrench"),
        ([Robot((), (Feature("action", (2, 2)),))], SpecError, "one vector of actions"),
    ],
)
def test_what_cannot_be_joined_is_refused(parts, error, message):
    with pytest.raises(error, match=message):
        CompositeRobot(parts)


def test_a_composite_conforms_and_so_does_each_part():
    for make in (
        arm,
        gripper,
        arm_with_gripper,
        lambda: CompositeRobot([arm_with_gripper(), arm(), gripper()]),
    ):
        assert any(
            "refused" in line and "stop()" in line for line in check_driver(lambda make=make: Checked(make()))
        )
    assert "spec with observations and no action is there while disconnected" in check_sensor(sensor)
    with pytest.raises(DeviceError, match="no action"):
        check_sensor(lambda: Sensor((WRENCH,), (Feature("action", (1,)),)))
    with pytest.raises(DeviceError, match="a newer read comes within"):
        check_sensor(lambda: sensor(time_ns=now_ns()))


class Checked:
    """A machine that also looks at its targets, as every driver must."""

    def __init__(self, robot):
        self.robot = robot

    def __getattr__(self, name):
        return getattr(self.robot, name)

    def command(self, target, at_ns):
        size = self.robot.spec.action[0].size
        if np.shape(target) != (size,) or not np.isfinite(target).all():
            raise SpecError(f"The target {target} is not {size} finite numbers.")
        return self.robot.command(target, at_ns)
