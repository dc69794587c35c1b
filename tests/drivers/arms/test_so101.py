"""The SO-101 driver with Feetech's SDK against an own emulator of its servo bus, on a pseudo terminal."""

from __future__ import annotations

import re
import sys
import time

import numpy as np
import pytest
from device_targets import wait_until
from emulated import Emulated
from hypothesis import given
from hypothesis import strategies as st

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import ConfigError, DeviceError, MissingExtraError
from robopolicy_drivers.arms.feetech import FeetechLink, JointScale, servo_names
from robopolicy_drivers.arms.feetech_bus import HOMING_OFFSET, LOCK, TORQUE_LIMIT, Register, ServoBus
from robopolicy_drivers.arms.feetech_calibration import JointRecording, write_joints
from robopolicy_drivers.arms.gripping_arm import GrippingArm
from robopolicy_drivers.arms.leader import LeaderArm
from robopolicy_drivers.arms.so101 import So101Config
from robopolicy_drivers.calibration.joints import JointCalibration, load_joints, save_joints
from robopolicy_drivers.conformance import check_driver
from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_drivers.safety.configs import SafetyConfig
from robopolicy_drivers.teleop.configs import LeaderConfig
from robopolicy_drivers.teleop.leader import LeaderDevice

pytest.importorskip("scservo_sdk", reason="the extra 'feetech' is not installed")
pytestmark = pytest.mark.realtime
SO101 = load_embodiment("so101")
NAMES = servo_names(SO101)
# Where the encoders stand when the joints are in the middle of their ranges: two of them begin anew within.
ENCODERS = {1: 10, 2: 4000, 3: 2048, 4: 1500, 5: 2500, 6: 3000}
# On a machine that is busy the emulator may sleep for a while; only the tests of silence mind.
PATIENT = {"silence_s": 5.0, "safety": SafetyConfig(stale_state_s=5.0)}


def servo_bus():
    """Starts the emulator; the first of its words is the bus' port."""
    return Emulated("feetech_servos", *(f"{servo}={count}" for servo, count in ENCODERS.items()))


@pytest.fixture
def own_peer():
    """A bus that the test may leave in any state."""
    with servo_bus() as peer:
        yield peer


@pytest.fixture
def own_config(own_peer, tmp_path):
    return calibrated(own_peer, tmp_path / "so101.json")


@pytest.fixture
def own_arm(own_config):
    """As impatient as it is by default."""
    own_config.silence_s = So101Config.silence_s
    with GrippingArm(own_config) as arm:
        yield arm


@pytest.fixture(scope="module")
def peer():
    with servo_bus() as peer:
        yield peer


@pytest.fixture(scope="module")
def config(peer, tmp_path_factory):
    return calibrated(peer, tmp_path_factory.mktemp("so101") / "so101.json")


@pytest.fixture(scope="module")
def connected(config):
    with GrippingArm(config) as arm:
        yield arm


@pytest.fixture
def arm(connected):
    """An arm that many tests use one after the other; not stopped."""
    if stopped(connected):
        connected.release()
    return connected


def calibrated(peer, file):
    """Returns the settings of an arm that is calibrated: 1150 counts to both sides of the middle."""
    joints = []
    for servo, name in NAMES.items():
        offset = (ENCODERS[servo] - 2048 + 2048) % 4096 - 2048
        joints.append(JointCalibration(name, servo, max(offset, -2047), 898, 3198))
    bus = ServoBus(peer.told[0], NAMES)
    bus.open()
    write_joints(bus, joints)
    bus.close()
    save_joints(file, "so101", joints)
    return So101Config(port=peer.told[0], calibration=str(file), action="joint", **PATIENT)


def place(arm):
    state = arm.state()[1]
    return np.concatenate([state["robot0_joint_pos"], state["robot0_gripper_width"]]).astype(float)


def go(arm, target, seconds=0.3):
    return arm.command(np.array(target), now_ns() + seconds_to_ns(seconds))


def reach(arm, goal, tolerance=0.01):
    """Commands a goal until it is reached: who says nothing for half a second lets the arm hold."""

    def there():
        go(arm, goal, 0.1)
        return np.abs(place(arm) - goal).max() < tolerance

    assert wait_until(there, pause_s=0.05)


def bent(arm, angle):
    """Returns the goal that bends all joints by an angle."""
    goal = place(arm)
    goal[:5] += angle
    return goal


def stopped(arm):
    return bool(arm.ring.newest().data["stopped"])


@pytest.mark.parametrize("action", ["pose", "joint"])
def test_it_conforms(own_config, action):
    own_config.action = action
    assert check_driver(lambda: GrippingArm(own_config))


def test_joints_and_gripper_are_reached_on_both_sides_of_the_encoders_end(arm):
    """The encoders of the first two joints begin anew in the middle of their ranges."""
    for sign in (1, -1):
        goal = place(arm)
        goal[:5] += sign * np.array([0.4, 0.3, -0.2, 0.2, 0.5])
        goal[5] = 0.05 + sign * 0.03
        reach(arm, goal)
    time.sleep(0.2)
    record = arm.ring.newest()
    assert np.abs(record.data["robot0_joint_vel"]).max() < 0.2


def test_it_goes_home_and_the_gripper_stays(arm):
    goal = place(arm)
    goal[:5], goal[5] = SO101.home_positions + np.array([0.3, 0.2, -0.2, -0.3, 0.5]), 0.03
    reach(arm, goal)
    arm.go_home()
    assert wait_until(lambda: np.abs(place(arm)[:5] - SO101.home_positions).max() < 0.01)
    assert abs(place(arm)[5] - 0.03) < 0.01


def test_a_pose_with_an_opening_is_reached(own_config):
    own_config.action = "pose"
    with GrippingArm(own_config) as arm:
        state = arm.state()[1]
        goal = [*state["robot0_eef_pos"], *state["robot0_eef_rot_axis_angle"], 0.02]
        goal[2] += 0.02
        go(arm, goal)
        assert wait_until(
            lambda: (
                np.abs(arm.state()[1]["robot0_eef_pos"] - goal[:3]).max() < 0.003
                and abs(place(arm)[5] - 0.02) < 0.002
            )
        )


def test_a_slow_joint_is_not_taken_for_a_frozen_one():
    """At the speed from which on the gate takes a joint for moving, a count takes less than its patience."""
    moving = 1e-3 * SO101.velocity_limits.min()
    assert 2 * np.pi / 4096 / moving < So101Config().safety.stale_state_s


def test_the_loop_keeps_its_rate(own_config):
    own_config.rate_hz = 200.0
    with GrippingArm(own_config) as arm:
        time.sleep(2.0)
        lateness, times = arm.lateness(), [record.time_ns for record in arm.ring.history(200)]
    period = np.median(np.diff(times)) / 1e6
    print(f"rate of states: {1e3 / period:.0f} Hz; of {lateness.ticks} ticks {lateness.late_10ms} were late")
    assert len(set(times)) > 20


def test_an_overloaded_servo_stops_the_arm_and_is_named(arm, peer, reaction):
    go(arm, bent(arm, 0.05))
    peer.say("error 3 32")
    reaction("an overloaded servo", lambda: stopped(arm))
    with pytest.raises(DeviceError, match=r"elbow_flex reports: it is overloaded; take the load away"):
        go(arm, place(arm))
    with pytest.raises(DeviceError, match=r"is not released: the servo elbow_flex"):
        arm.release()
    peer.say("error 3 0")
    time.sleep(0.1)
    arm.release()
    reach(arm, bent(arm, -0.05))


def test_a_loss_of_power_is_noticed(arm, peer, reaction):
    peer.say("power")
    reaction("servos that lost their power", lambda: stopped(arm))
    with pytest.raises(DeviceError, match=r"does not hold any more: it was without power"):
        go(arm, place(arm))
    before = place(arm)
    arm.release()
    time.sleep(0.1)
    np.testing.assert_allclose(place(arm)[:5], before[:5], atol=0.01)


def test_a_gripper_that_had_let_go_stays_where_it_is_when_it_is_released(arm, peer):
    goal = place(arm)
    goal[5] = 0.08
    reach(arm, goal, 0.002)
    peer.say("power 6")
    assert wait_until(lambda: stopped(arm))
    peer.say("push 6 -600")  # a hand closes the jaw
    assert wait_until(lambda: place(arm)[5] < 0.06)
    time.sleep(0.3)
    closed = place(arm)[5]
    arm.release()
    time.sleep(0.3)
    assert abs(place(arm)[5] - closed) < 0.003
    reach(arm, goal, 0.002)  # the opening of before is another wish now


def test_servos_that_lost_their_power_are_set_up_again(own_config, own_peer):
    link = FeetechLink(own_config)
    link.open()
    own_peer.say("power")
    assert wait_until(lambda: link.read() and link.fault())
    link.recover()
    link.close()
    bus = ServoBus(own_peer.told[0], NAMES)
    bus.open()
    assert [bus.read(servo, TORQUE_LIMIT) for servo in NAMES] == [1000, 1000, 1000, 1000, 1000, 500]
    bus.close()


def test_a_second_controller_is_noticed(arm, peer, reaction):
    go(arm, place(arm))

    def noticed():
        peer.say("set 2 1800")  # again and again, as it would
        return stopped(arm)

    reaction("another program's set points", noticed)
    with pytest.raises(DeviceError, match="another program commands the servo shoulder_lift"):
        go(arm, place(arm))


def test_one_damaged_answer_does_no_harm(arm, peer):
    peer.say("corrupt 4 1")
    reach(arm, bent(arm, 0.05))
    assert not stopped(arm)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("cut", r"The connection to '.*' is broken .* Check the USB cable"),
        ("silent 4", r"servo 4 \(wrist_flex\) .*: nothing answers\. Check its number on the bus, the cables"),
        ("corrupt 5 1000", r"servo 5 \(wrist_roll\) .*: its answer is damaged"),
    ],
)
def test_a_bus_that_breaks_ends_the_process_with_its_words(own_arm, own_peer, reaction, fault, text):
    def told():
        try:
            own_arm.state()
        except DeviceError as error:
            return re.search(text, str(error))  # a process that is kept waiting is missed before it speaks
        return None

    own_peer.say(fault)
    reaction(f"the fault '{fault}'", told)


def test_after_closing_the_servos_hold(own_config, own_peer):
    with GrippingArm(own_config) as arm:
        reach(arm, bent(arm, 0.1))
    bus = ServoBus(own_peer.told[0], NAMES)
    bus.open()
    assert all(state.torque for state in bus.states()[1])
    bus.close()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("model 2 1284", r"servo 2 \(shoulder_lift\) .* of model 1284, not an STS3215"),
        ("silent 3", "servo 3"),
    ],
)
def test_a_bus_of_another_kind_is_refused(own_config, own_peer, change, text):
    own_peer.say(change)
    time.sleep(0.05)
    refused(own_config, text)


def test_a_busy_port_names_who_uses_it(config, arm):
    with pytest.raises(DeviceError, match=rf"in use by process {arm.pid} .* End that program"):
        FeetechLink(config).open()


def refused(config, text):
    link = FeetechLink(config)
    with pytest.raises(DeviceError, match=text):
        link.open()
    link.close()


def test_another_arms_calibration_is_refused(own_config, own_peer):
    bus = ServoBus(own_peer.told[0], NAMES)
    bus.open()
    bus.write(3, LOCK, 0)
    bus.write(3, HOMING_OFFSET, -5)
    bus.close()
    refused(own_config, r"servo 3 \(elbow_flex\) .* another arm, or a servo was replaced")


def test_a_slipped_horn_is_refused(own_config, own_peer):
    own_peer.say("push 4 1250")
    time.sleep(0.5)
    refused(own_config, r"wrist_flex at \d+ counts\. A horn has slipped")


def test_a_joint_that_passes_the_end_of_its_encoder_ends_it(own_config, own_peer):
    """A shaft without stops is turned beyond its range, until its encoder begins anew."""
    with LeaderArm(own_peer.told[0], own_config.calibration) as leader:
        own_peer.say("turn 5 3000")

        def passed():
            end = time.monotonic() + 10.0
            while time.monotonic() < end:
                leader.positions()

        with pytest.raises(DeviceError, match="'wrist_roll' went past the end of its encoder"):
            passed()


def test_without_its_package_the_extra_is_named(own_config, monkeypatch):
    monkeypatch.setitem(sys.modules, "scservo_sdk", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'robopolicy\[feetech\]'"):
        FeetechLink(own_config).open()


def test_a_calibration_by_hand_serves_follower_and_leader(own_peer, tmp_path):
    """Two encoders begin anew within the ranges that a hand moves them through."""
    config = So101Config(port=own_peer.told[0], calibration=str(tmp_path / "arm.json"), action="joint")
    recording = JointRecording(config)
    recording.open()
    with pytest.raises(DeviceError, match="not moved through their ranges: shoulder_pan"):
        recording.finish()
    for way in (830, 830, -830, -830, -830, -830, 830, 830):  # each less than what counts as a jump
        for servo in NAMES:
            own_peer.say(f"push {servo} {way}")
        end = time.monotonic() + abs(way) / 4000 + 0.1
        while time.monotonic() < end:
            spans = recording.sample()
            time.sleep(0.005)
    assert all(way >= needed for way, needed in spans.values())
    recording.finish()
    recording.close()
    joints = load_joints(config.calibration, "so101", NAMES)
    assert all(abs(joint.upper - joint.lower - 3320) <= 4 for joint in joints)
    assert all(abs(joint.middle - 2048) <= 1 for joint in joints)
    with LeaderArm(own_peer.told[0], config.calibration) as leader:
        time_ns, positions, width = leader.positions()
        np.testing.assert_allclose(positions, SO101.position_limits.mean(axis=1), atol=0.01)
        assert width == pytest.approx(0.05, abs=0.001)
        own_peer.say("push 1 -400")
        time.sleep(0.3)
        later_ns, moved, _ = leader.positions()
        assert moved[0] - positions[0] == pytest.approx(-400 * 2 * np.pi / 4096, abs=0.005)
        assert later_ns > time_ns


def test_a_follower_does_what_the_leader_does(arm, own_config, own_peer):
    """Two arms, two buses, two processes."""
    with LeaderDevice(LeaderConfig(port=own_peer.told[0], calibration=own_config.calibration)) as leader:
        own_peer.say("push 1 300")
        own_peer.say("push 6 400")
        wanted = [300 * 2 * np.pi / 4096, 0.05 + 400 * 0.1 / 2300]

        def follows():
            sample = leader.recent()
            go(arm, [*sample["joints"], sample["width"][0]], 0.1)
            return np.abs(place(arm)[[0, 5]] - wanted).max() < 0.003

        assert wait_until(follows, pause_s=0.02)


def test_a_joint_that_is_turned_by_a_whole_turn_is_not_calibrated(own_peer, tmp_path):
    recording = JointRecording(So101Config(port=own_peer.told[0], calibration=str(tmp_path / "arm.json")))
    recording.open()
    own_peer.say("turn 5 4096")

    def turned():
        while True:
            recording.sample()

    with pytest.raises(DeviceError, match=r"'wrist_roll' was turned by 3\d\d degrees"):
        turned()
    recording.close()
    assert not (tmp_path / "arm.json").exists()


@given(
    shares=st.lists(st.floats(0.0, 1.0), min_size=6, max_size=6),
    lower=st.integers(0, 2000),
    span=st.integers(1500, 2000),
    direction=st.sampled_from([1, -1]),
)
def test_angles_become_counts_and_come_back(shares, lower, span, direction):
    joints = [JointCalibration(n, i, 0, lower, lower + span, direction) for i, n in NAMES.items()]
    scale, limits = JointScale(joints, SO101), SO101.position_limits
    half = span * np.pi / 4096
    angles = limits.mean(axis=1) + (2 * np.array(shares[:5]) - 1) * half
    width = 0.1 * shares[5]
    counts = scale.counts(angles, width)
    assert ((lower <= counts) & (counts <= lower + span)).all()
    np.testing.assert_allclose(scale.angles(counts), angles, atol=0.51 * 2 * np.pi / 4096)
    assert scale.width(counts) == pytest.approx(width, abs=0.51 * 0.1 / span)
    assert not scale.outside(counts)


@given(value=st.integers(-2047, 2047))
def test_a_signed_register_keeps_its_value(value):
    assert HOMING_OFFSET.decode(HOMING_OFFSET.encode(value)) == value


@pytest.mark.parametrize(
    ("register", "value"), [(HOMING_OFFSET, 2048), (Register(40, 1), 256), (Register(9, 2), -1)]
)
def test_a_value_without_room_is_refused(register, value):
    with pytest.raises(DeviceError, match="has no room"):
        register.encode(value)


def test_settings_that_make_no_sense():
    with pytest.raises(ConfigError, match=r"gripper_torque is 1\.5"):
        So101Config(gripper_torque=1.5)
    with pytest.raises(DeviceError, match=r"no serial port '/dev/ttyACM77'; this computer has"):
        ServoBus("/dev/ttyACM77", NAMES).open()
