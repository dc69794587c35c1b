"""The emergency stop of a simulated arm whose program hangs: real processes, the real command."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from robopolicy_drivers.emergency_stop import Outcome, stop_all

pytestmark = pytest.mark.realtime

PROGRAM = """
import json, os, signal, sys, time
import numpy as np
from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_sim.configs import SimulatedRobotConfig
from robopolicy_sim.robot import make_robot

def pose():
    state = robot.state()[1]
    return state["robot0_eef_pos"].tolist()

with make_robot(SimulatedRobotConfig()) as robot:
    state = robot.state()[1]
    keys = ("robot0_eef_pos", "robot0_eef_rot_axis_angle", "robot0_gripper_width")
    target = np.concatenate([state[key] for key in keys]).astype(float)
    target[2] += 0.3
    begun = pose()
    robot.command(target, now_ns() + seconds_to_ns(3.0))
    while pose()[2] < begun[2] + 0.01:
        time.sleep(0.005)
    print("moving", flush=True)
    if sys.argv[1] == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)  # until the test continues it
    else:
        sys.stdin.readline()  # as good as stuck: it commands nothing and looks at nothing
    words = ""
    try:
        robot.command(target, now_ns())
    except DeviceError as error:
        words = str(error)
    time.sleep(0.3)  # it brakes
    before = pose()
    time.sleep(0.5)
    stops = [event.start_ns for event in robot.safety_events() if event.text == "the red button"]
    print(json.dumps({"words": words, "before": before, "after": pose(), "stops": stops}), flush=True)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("claims")
    folder.chmod(0o700)
    monkeypatch.setenv("ROBOPOLICY_RUNTIME_DIR", str(folder))


@pytest.fixture(params=["stopped", "stuck"])
def program(request):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, request.param],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "moving\n"
    yield process
    process.kill()
    process.communicate()


def finish(process):
    """Lets the program go on, and returns what it tells."""
    os.kill(process.pid, signal.SIGCONT)
    out, _ = process.communicate("go on\n", timeout=60)
    return json.loads(out)


def test_an_arm_is_stopped_while_its_program_hangs(program, record_property):
    begun_ns = time.monotonic_ns()
    (report,) = stop_all("the red button")
    answered_ms = (time.monotonic_ns() - begun_ns) / 1e6
    assert report.outcome is Outcome.STOPPED
    assert report.robot.controller == program.pid
    told = finish(program)
    assert "was stopped: the red button" in told["words"]
    (stopped_ns,) = told["stops"]
    record_property("reaction_ms", (stopped_ns - begun_ns) / 1e6)
    print(
        f"reaction: latched after {(stopped_ns - begun_ns) / 1e6:.1f} ms, answered after {answered_ms:.1f} ms"
    )
    np.testing.assert_allclose(told["after"], told["before"], atol=1e-3)


def test_the_command_stops_it_too(program):
    result = subprocess.run(
        [sys.executable, "-m", "robopolicy_launch", "devices", "estop", "reason=the red button"],
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "stopped sim-" in result.stdout
    assert "was stopped: the red button" in finish(program)["words"]


def test_a_robot_that_cannot_be_reached_gives_exit_code_1(program):
    (report,) = stop_all("look for it")
    os.kill(report.robot.pid, signal.SIGSTOP)
    result = subprocess.run(
        [sys.executable, "-m", "robopolicy_launch", "devices", "estop"], capture_output=True, text=True
    )
    assert result.returncode == 1
    assert f"kill -9 {report.robot.pid}" in result.stdout
    os.kill(report.robot.pid, signal.SIGKILL)


def test_no_robot_no_stop(capsys):
    from robopolicy_launch.command import main

    assert main(["devices", "estop"]) == 0
    assert "No robot" in capsys.readouterr().out
