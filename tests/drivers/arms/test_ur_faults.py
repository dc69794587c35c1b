"""Faults of a Universal Robots arm: what stops it, what it says, and how it goes on. Our own emulator."""

import os
import re
import signal
import time

import numpy as np
import pytest
from device_targets import wait_until
from ur_peer import EmulatedUr, RtdeClient, soon

from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.arms.arm import Arm
from robopolicy_drivers.arms.ur import UrConfig
from robopolicy_drivers.arms.ur_program import UrProgram

pytest.importorskip("rtde_control", reason="the extra 'ur' is not installed")
pytestmark = pytest.mark.realtime

PERIOD_S = 0.008


def joints(arm):
    return arm.state()[1]["robot0_joint_pos"].astype(np.float64)


def swing(arm, ended, amplitude=0.2, speed=0.8):
    """Swings the first joint until ``ended()``, or a command is refused; returns the refusal's text."""
    start, begun = joints(arm), time.monotonic()
    while not ended():
        angle = amplitude * np.sin(speed / amplitude * (time.monotonic() - begun))
        try:
            arm.command(start + angle * np.eye(6)[0], soon())
        except DeviceError as error:
            return str(error)
        time.sleep(PERIOD_S)
    return ""


def move(arm):
    """Swings the arm until it is seen to move."""
    start = joints(arm)
    told = swing(arm, lambda: np.abs(joints(arm) - start).max() > 0.02)
    assert not told, told


def goes_on(arm):
    goal = joints(arm) + 0.1 * np.eye(6)[0]
    arm.command(goal, soon(0.2))
    return wait_until(lambda: np.abs(joints(arm) - goal).max() < 1e-3)


FAULTS = {
    "a protective stop": ("protective_stop", "protective stop.*release the stop", None),
    "an emergency stop": ("emergency_stop", "emergency stop is pressed.*power on", "power_on"),
    "a safeguard": ("safeguard", "safeguard stop is active.*Close", "normal"),
    "an enabling device let go of": ("enabling_stop", r"stopped the arm \(mode 13\)", "normal"),
    "a program ended at the pendant": ("stop_program", "program does not run.*Releasing", None),
    "the speed slider at 0": ("speed 0", "speed slider stands at 0 %.*Move it up", "speed 1"),
}


def released(arm):
    """Releases; again and again, as a person does while the controller does not unlock yet."""

    refusals = []

    def release():
        try:
            arm.release()
        except DeviceError as error:
            refusals.append(str(error))
            return False
        return True

    assert wait_until(release, timeout_s=5.0), refusals


@pytest.fixture(scope="class")
def connected(running):
    config = UrConfig(
        host=running.host, action="joint", largest_lag=0.2, payload=1.5, payload_center=[0.0, 0.0, 0.06]
    )
    with Arm(config) as arm:
        yield arm


class TestFaults:
    """What a person can mend at the arm, without connecting again."""

    @pytest.fixture
    def arm(self, controller, connected):
        """An arm at the running emulator, which moves."""
        released(connected)
        move(connected)
        return connected

    @pytest.mark.parametrize("fault", FAULTS)
    def test_a_fault_is_named_latches_and_is_released(self, controller, arm, reaction, fault):
        line, text, remedy = FAULTS[fault]
        controller.say(line)
        reaction(fault, lambda: arm.ring.newest().data["stopped"])
        with pytest.raises(DeviceError, match=text):
            arm.command(joints(arm), soon())
        if remedy is not None:
            with pytest.raises(DeviceError, match="cannot be moved"):
                arm.release()
            controller.say(remedy)
        released(arm)
        assert goes_on(arm)
        assert any(re.search(text, event.text) for event in arm.safety_events())

    def test_a_protective_stop_is_not_unlocked_too_early(self, controller, arm):
        controller.say("protective_stop")
        assert wait_until(lambda: arm.ring.newest().data["stopped"])
        with pytest.raises(DeviceError, match=r"not unlocked yet\. Look for its cause, wait until 5 s"):
            arm.release()
        released(arm)

    def test_an_arm_that_cannot_follow_is_noticed(self, controller, arm):
        controller.say("speed 0.05")
        end = time.monotonic() + 5.0
        told = swing(arm, lambda: time.monotonic() > end, amplitude=0.5, speed=1.5)
        assert "behind its set point (allowed: 0.2 rad); the speed slider stands at 5 %" in told

    def test_the_payload_is_set_with_each_program(self, controller, arm):
        with RtdeClient(controller.host) as client:
            assert client.outputs("payload") == (1.5,)
            assert client.outputs("payload_cog") == (0.0, 0.0, 0.06)
            controller.say("payload 0")
            controller.say("stop_program")
            assert wait_until(lambda: arm.ring.newest().data["stopped"])
            arm.release()
            assert wait_until(lambda: client.outputs("payload") == (1.5,))


def test_a_killed_controller_ends_the_process_with_its_words(reaction):
    with EmulatedUr() as mortal, Arm(UrConfig(host=mortal.host, action="joint")) as arm:
        move(arm)
        mortal.kill()
        reaction("a killed controller", lambda: is_lost(arm))
        with pytest.raises(DeviceError, match=r"connection to the controller .* is lost.*Connect again"):
            arm.state()


def is_lost(arm):
    try:
        arm.state()
    except DeviceError:
        return True
    return False


def test_a_controller_that_falls_silent_stops_the_arm_and_then_ends_the_process(reaction):
    with EmulatedUr() as frozen, Arm(UrConfig(host=frozen.host, action="joint")) as arm:
        move(arm)
        frozen.freeze()
        reaction("a silent controller", lambda: arm.ring.newest().data["stopped"])
        with pytest.raises(DeviceError, match=r"has told nothing for .* Check its cable"):
            arm.command(joints(arm), soon())
        reaction("its silence, until the connection is given up", lambda: is_lost(arm))


def test_a_short_silence_is_forgiven_where_a_person_releases_the_stop():
    with EmulatedUr() as frozen, Arm(UrConfig(host=frozen.host, action="joint")) as arm:
        move(arm)
        frozen.freeze()
        assert wait_until(lambda: arm.ring.newest().data["stopped"])
        frozen.thaw()
        released(arm)
        assert goes_on(arm)


def test_closing_does_not_wait_for_a_silent_controller():
    with EmulatedUr() as frozen:
        arm = Arm(UrConfig(host=frozen.host))
        arm.connect()
        frozen.freeze()
        begun = time.monotonic()
        arm.close()
        assert time.monotonic() - begun < 10.0  # a generous bound: the bug would be a hang


def test_the_controller_stops_the_arm_by_itself_when_the_process_is_killed(controller, reaction):
    with Arm(UrConfig(host=controller.host, action="joint")) as arm:
        move(arm)
        os.kill(arm.pid, signal.SIGKILL)
        reaction("a killed driver", lambda: controller.asked("running") == "Program running: false")


@pytest.mark.parametrize("error", [RuntimeError, ValueError, IndexError])
def test_whatever_a_call_of_ur_rtde_raises_is_told(error):
    class Failing:
        def setWatchdog(self, rate_hz):
            return True

        def servoJ(self, *arguments):
            raise error("it says no")

        def isConnected(self):
            return False

        def disconnect(self):
            pass

    program = UrProgram(Failing(), UrConfig())
    program.follow(np.zeros(6))
    assert wait_until(lambda: program.failure == "it says no")
    program.close()
    assert program.closed.wait(5.0)
