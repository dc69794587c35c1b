"""A Franka arm through franky and libfranka, against franky-sim: a third party's protocol peer.

Faults that franky-sim does not have (reflex, stop button) are added to it by ``emulators/franka_faults.py``.
``python -m pytest tests/drivers/arms/test_franka.py -rP | grep reaction`` prints how long they go unnoticed.
"""

import signal
import socket
import struct
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from device_targets import wait_until
from franka_peer import franka_peer, own_host
from hypothesis import given
from hypothesis import strategies as st

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import ConfigError, DeviceError, MissingExtraError
from robopolicy_datasets.registry import load_target
from robopolicy_drivers.arms.arm import Arm
from robopolicy_drivers.arms.franka import FrankaConfig
from robopolicy_drivers.conformance import check_driver
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_drivers.realtime.loop import DeadlineLoop

pytestmark = pytest.mark.realtime

franky = pytest.importorskip("franky", reason="the extra 'franka' is not installed")

FR3 = load_embodiment("fr3")
SIDEWAYS = np.array([0.0, 1.0, 0.0, 0.0, 0.0, 0.0])


@pytest.fixture(scope="module")
def shared():
    peer = franka_peer()
    yield peer
    peer.close()


@pytest.fixture(scope="module")
def occupied():
    """A peer to which a program, this one, is connected."""
    peer = franka_peer()
    peer.robot = franky.Robot(peer.host, realtime_config=franky.RealtimeConfig.Ignore)
    yield peer
    peer.close()


@pytest.fixture
def peer():
    peer = franka_peer()
    yield peer
    peer.close()


def arm_at(peer, **settings):
    return Arm(FrankaConfig(host=peer.host, **settings))


def pose(arm):
    state = arm.state()[1]
    return np.concatenate([state["robot0_eef_pos"], state["robot0_eef_rot_axis_angle"]])


def arrived(arm, goal):
    return np.linalg.norm(pose(arm)[:3] - goal[:3]) < 2e-3


def soon(seconds=0.3):
    return now_ns() + seconds_to_ns(seconds)


def running(arm):
    """Waits until its loop streams."""
    assert wait_until(lambda: arm.lateness().ticks > 20)
    return arm


def stopped(arm):
    return bool(arm.ring.newest().data["stopped"])


def fails(arm):
    """Whether asking for a state raises; then ``words`` has the error's text."""
    try:
        arm.state()
    except DeviceError as error:
        fails.words = str(error)
        return True
    return False


# --- moving -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["pose", "joint"])
def test_it_conforms(shared, action):
    assert check_driver(lambda: arm_at(shared, action=action))


def test_a_stream_of_poses_is_followed(shared):
    with arm_at(shared) as arm:
        start = pose(arm)
        loop = DeadlineLoop(100.0)
        for step in range(150):
            loop.wait()
            target = start + 0.0005 * (step + 1) * SIDEWAYS
            arm.command(target, loop.deadline_ns + seconds_to_ns(0.05))
        assert wait_until(lambda: arrived(arm, target))
        assert not arm.safety_events()


def test_joints_are_streamed_at_1_khz(shared):
    with arm_at(shared, action="joint", rate_hz=1000.0) as arm:
        start = arm.state()[1]["robot0_joint_pos"].astype(float)
        loop = DeadlineLoop(1000.0)
        for step in range(1000):
            loop.wait()
            target = start + 0.05 * np.sin(2e-3 * np.pi * (step + 1))
            arm.command(target, loop.deadline_ns + seconds_to_ns(0.05))
        assert wait_until(lambda: np.abs(arm.state()[1]["robot0_joint_pos"] - start).max() < 5e-3)


# --- its body -----------------------------------------------------------------------------------------------


@given(share=st.lists(st.floats(0.0, 1.0), min_size=7, max_size=7))
def test_our_kinematics_are_those_of_libfranka(occupied, share):
    robot = occupied.robot
    lower, upper = FR3.position_limits.T
    joints = lower + np.array(share) * (upper - lower)
    hand = franky.Affine(robot.state.F_T_EE.matrix)
    theirs = robot.model.pose(franky.Frame.EndEffector, joints, hand, franky.Affine())
    # The hand's transform comes in single precision.
    np.testing.assert_allclose(Kinematics(FR3).forward(joints), theirs.matrix, atol=1e-6)


def test_the_pose_that_the_controller_tells_is_ours(occupied):
    state = occupied.robot.state
    # The desired one: an idle franky-sim tells the desired pose also as the measured one.
    np.testing.assert_allclose(Kinematics(FR3).forward(state.q_d), state.O_T_EE_d.matrix, atol=1e-6)


def test_our_limits_lie_within_those_of_the_controller(occupied):
    limits = [
        joint.find("limit").attrib
        for joint in ElementTree.fromstring(occupied.robot.model_urdf).iter("joint")
        if joint.get("type") == "revolute"
    ]
    theirs = {key: np.array([float(limit[key]) for limit in limits]) for key in limits[0]}
    assert (FR3.position_limits[:, 0] >= theirs["lower"]).all()
    assert (FR3.position_limits[:, 1] <= theirs["upper"]).all()
    assert (FR3.velocity_limits <= theirs["velocity"]).all()


# --- faults while it moves ----------------------------------------------------------------------------------


def test_a_reflex_latches_and_is_recovered(shared, reaction):
    with arm_at(shared) as arm:
        before = pose(running(arm))
        shared.say("reflex")
        reaction("a reflex", lambda: stopped(arm))
        with pytest.raises(DeviceError, match=r"by a reflex \(cartesian_reflex\): free the arm"):
            arm.command(before, soon())
        arm.release()
        goal = before + 0.02 * SIDEWAYS
        arm.command(goal, soon())
        assert wait_until(lambda: arrived(arm, goal))


def test_a_pressed_stop_button_is_told_until_it_is_released(shared, reaction):
    with arm_at(shared) as arm:
        before = pose(running(arm))
        shared.say("user_stop")
        reaction("the stop button", lambda: stopped(arm))
        with pytest.raises(DeviceError, match="Release the button"):
            arm.command(before, soon())
        with pytest.raises(DeviceError, match="its stop button is pressed"):
            arm.release()
        shared.say("ready")
        time.sleep(0.1)
        arm.release()
        arm.command(before, soon())


def test_a_killed_controller_ends_the_run(peer, reaction):
    with arm_at(peer) as arm:
        running(arm)
        killed_ns = peer.send(signal.SIGKILL)
        reaction("a killed controller (stop)", lambda: stopped(arm) or fails(arm))
        assert wait_until(lambda: fails(arm), pause_s=0.0005)
        print(f"reaction to a killed controller (error): {1e-6 * (now_ns() - killed_ns):.1f} ms")
        assert "is lost" in fails.words


def test_a_cut_cable_stops_and_ends_the_run(peer, reaction):
    with arm_at(peer) as arm:
        running(arm)
        cut_ns = peer.send(signal.SIGSTOP)
        reaction("a cut cable (stop)", lambda: stopped(arm) or fails(arm))
        assert wait_until(lambda: fails(arm), pause_s=0.0005)
        print(f"reaction to a cut cable (error): {1e-6 * (now_ns() - cut_ns):.1f} ms")
        assert "is lost" in fails.words
        peer.send(signal.SIGCONT)
        arm.close()
        arm.connect()  # the same robot, when the cable is back
        arm.command(pose(arm), soon())


# --- faults while it connects -------------------------------------------------------------------------------


def test_an_arm_that_is_not_ready_says_what_to_do(shared):
    shared.say("user_stop")
    time.sleep(0.1)
    with pytest.raises(DeviceError, match="stop button is pressed: release the button"):
        arm_at(shared).connect()
    shared.say("ready")


def test_a_controller_that_is_not_there_is_told():
    with pytest.raises(DeviceError, match=r"refuses the connection.*activate FCI"):
        Arm(FrankaConfig(host=own_host())).connect()


def test_another_version_of_the_interface_is_told():
    host = own_host()
    with socket.create_server((host, 1337)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                _, number, _ = struct.unpack("<III", connection.recv(12))
                # Connect: a header of 12 bytes; status 1 (incompatible), version 3 of the server.
                connection.sendall(struct.pack("<IIIHH4x", 0, number, 20, 1, 3))
                connection.recv(64)

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(DeviceError, match=r"another version of its interface.*franky-control"):
            Arm(FrankaConfig(host=host)).connect()


def test_a_second_controller_is_told(occupied):
    with pytest.raises(DeviceError, match="Does another program"):
        arm_at(occupied).connect()


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "franky", None)
    with pytest.raises(MissingExtraError, match=r"robopolicy\[franka\]"):
        load_target(FrankaConfig.link)(FrankaConfig())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rate_hz": 2000.0}, "20 to 1000 Hz"),
        ({"stiffness": [600.0] * 6}, "7 numbers"),
        ({"stiffness": [600.0] * 6 + [0.0]}, "above 0"),
        ({"collision_force": 0.0}, "above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        FrankaConfig(**settings)
