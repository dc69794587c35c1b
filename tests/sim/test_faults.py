"""What happens to a moving robot when something fails: it stops, stays stopped, and says why.

The times between a fault and the stop are printed, for docs/safety.md:
``python -m pytest tests/sim/test_faults.py -rP | grep reaction``.
"""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import DeviceError, RobopolicyError, StoreError
from robopolicy_drivers.runtime.executor import run_episode
from robopolicy_sim.configs import SimulatedRobotConfig
from robopolicy_sim.robot import make_robot
from robopolicy_sim.tasks.manipulation import manipulation_spec

pytestmark = pytest.mark.realtime

KEYS = ("robot0_eef_pos", "robot0_eef_rot_axis_angle", "robot0_gripper_width")
FOREVER_S = 30.0


class Swinging:
    """A policy that moves the tool to and fro, so that whatever fails does so while the robot moves."""

    observation_steps, action_steps, dt = 1, 4, 0.1
    spec = manipulation_spec(64)

    def __init__(self):
        self.start, self.step = None, 0
        self.fault = lambda actions: actions

    def reset(self):
        self.start = None

    def infer(self, observation, *, seeds=None):
        if self.start is None:
            self.start, self.began = np.concatenate([observation[key][0, -1] for key in KEYS]), now_ns()
        times = (now_ns() - self.began) * 1e-9 + 0.1 * np.arange(1, 13)
        actions = np.repeat(self.start[None], 12, axis=0)
        actions[:, 1] += 0.05 * np.sin(3.0 * times)
        return self.fault(actions)[None]


class Rig:
    """A robot with its cameras, a policy, and what is done to them one second after they have begun."""

    def __init__(self, robot):
        self.robot, self.policy = robot, Swinging()
        self.record = lambda step: None
        self.fault_ns = self.stopped_ns = 0

    def run(self, fault) -> RobopolicyError:
        """Returns the error that ended the episode."""
        threading.Timer(1.5, self._fail, [fault]).start()
        watch = threading.Thread(target=self._watch)
        watch.start()
        with pytest.raises(RobopolicyError) as caught:
            run_episode(
                self.robot,
                self.robot.cameras,
                self.policy,
                duration_s=FOREVER_S,
                recorder=lambda step: self.record(step),
            )
        self.ended_ns = now_ns()
        watch.join()
        return caught.value

    def _fail(self, fault):
        self.fault_ns = now_ns()
        fault(self)

    def _watch(self):
        over = False
        while not (self.stopped_ns or over):
            over = hasattr(self, "ended_ns")  # and then one more look
            if self.robot.ring.newest().data["stopped"]:
                self.stopped_ns = now_ns()
            time.sleep(0.001)

    def told(self, what):
        if self.stopped_ns:
            print(
                f"reaction, {what}: the stop latched after {(self.stopped_ns - self.fault_ns) / 1e6:.0f} ms"
            )
        print(f"reaction, {what}: the error came after {(self.ended_ns - self.fault_ns) / 1e6:.0f} ms")


def in_policy(change):
    def fault(rig):
        rig.policy.fault = change

    return fault


def divide(actions):
    raise ZeroDivisionError("division by zero")


def in_recorder(rig):
    def full(step):
        raise StoreError("The disk is full; nothing more is recorded.")

    rig.record = full


def in_camera(number):
    return lambda rig: os.kill(rig.robot.cameras[0].pid, number)


def pressed(rig):
    rig.robot.stop("somebody pressed the button")


@pytest.fixture
def rig():
    with make_robot(SimulatedRobotConfig()) as robot:
        for camera in robot.cameras:
            camera.connect()
        yield Rig(robot)


STOPPING = {
    "policy raises": (in_policy(divide), "ZeroDivisionError"),
    "policy gives NaN": (in_policy(lambda actions: actions * np.nan), "NaN"),
    "disk full while recording": (in_recorder, "disk is full"),
    "camera process killed": (in_camera(signal.SIGKILL), "SIGKILL"),
    "camera frozen (SIGSTOP)": (in_camera(signal.SIGSTOP), "observation is|no sign of life"),
    "stop pressed": (pressed, "pressed the button"),
}


@pytest.mark.parametrize("name", STOPPING)
def test_the_robot_brakes_and_the_stop_latches(rig, name):
    fault, message = STOPPING[name]
    error = rig.run(fault)
    rig.told(name)
    assert any(word in str(error) for word in message.split("|")), error
    robot = rig.robot
    assert robot.ring.newest().data["stopped"]
    with pytest.raises(DeviceError, match="was stopped"):
        robot.command(rig.policy.start, now_ns())
    time.sleep(0.5)
    at_rest = robot.state()[1]["robot0_joint_pos"]
    time.sleep(0.3)
    np.testing.assert_allclose(robot.state()[1]["robot0_joint_pos"], at_rest, atol=1e-4)
    stops = [event for event in robot.safety_events() if event.data["limit"] == "stop"]
    assert len(stops) == 1
    robot.release()
    robot.command(rig.policy.start, now_ns())


def at_inference(number, seconds=0.0):
    """Presses the button within the policy's inference of this number, which then takes so long."""

    def prepare(rig, press):
        calls = iter(range(1000))

        def fault(actions):
            if next(calls) == number:
                press()
                time.sleep(seconds)
            return actions

        rig.policy.fault = fault

    return prepare


def after_a_command(rig, press):
    rig.record = lambda step: press() if step.step == 7 else None


def while_it_holds(rig, press):
    rig.record = lambda step: press() if step.status == "hold" else None
    at_inference(4, seconds=4.0)(rig, lambda: None)


PHASES = {
    "the policy warms up": at_inference(0),
    "the first chunk is sampled": at_inference(1),
    "an inference is under way": at_inference(4, seconds=0.3),
    "a command was just given": after_a_command,
    "the last target is held": while_it_holds,
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_stop_in_any_phase_is_the_last_word(rig, phase):
    pressed_ns, commands = [], []

    def press():
        if not pressed_ns:
            rig.robot.stop("somebody pressed the button")
            pressed_ns.append(now_ns())

    passed = rig.robot.command
    rig.robot.command = lambda target, at_ns: commands.append(now_ns()) or passed(target, at_ns)
    PHASES[phase](rig, press)
    with pytest.raises(DeviceError, match="pressed the button"):
        run_episode(
            rig.robot,
            rig.robot.cameras,
            rig.policy,
            duration_s=FOREVER_S,
            recorder=lambda step: rig.record(step),
        )
    assert sum(time_ns > pressed_ns[0] for time_ns in commands) <= 1  # the one that was refused
    assert rig.robot.ring.newest().data["stopped"]


@pytest.mark.parametrize(
    ("number", "message"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGSTOP, "no sign of life|stuck")]
)
def test_a_robot_process_that_fails_is_told(rig, number, message):
    """There is nobody left to command; a real arm's own controller stops it when set points stay away."""
    error = rig.run(lambda rig: os.kill(rig.robot.pid, number))
    rig.told(f"robot process {signal.Signals(number).name}")
    assert isinstance(error, DeviceError)
    assert any(word in str(error) for word in message.split("|")), error
    with pytest.raises(DeviceError):
        rig.robot.command(rig.policy.start, now_ns())


def test_without_commands_the_robot_brakes_and_holds(rig):
    """Its program was stopped, or the network between them died."""
    robot = rig.robot
    start = np.concatenate([robot.state()[1][key] for key in KEYS])
    away = start + np.array([0, 0.3, 0, 0, 0, 0, 0])
    robot.command(away, now_ns() + seconds_to_ns(3.0))
    silent_ns = now_ns()
    time.sleep(1.5)
    event = next(event for event in robot.safety_events() if event.data["limit"] == "stale_command")
    print(f"reaction, commands stay away: braking after {(event.start_ns - silent_ns) / 1e6:.0f} ms")
    held = robot.state()[1]["robot0_eef_pos"]
    assert held[1] < away[1] - 0.1
    time.sleep(0.3)
    np.testing.assert_allclose(robot.state()[1]["robot0_eef_pos"], held, atol=1e-3)
