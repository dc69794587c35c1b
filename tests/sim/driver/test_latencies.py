"""A simulated robot is as late as its config says, by the measurement that a real robot is measured with."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from motions import go, here, moved

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import ConfigError
from robopolicy_drivers.calibration.motion import ProbeMotion
from robopolicy_drivers.calibration.probing import record_motion
from robopolicy_drivers.conformance import check_driver
from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_sim.configs import LatencyConfig, SimulatedRobotConfig
from robopolicy_sim.delay_line import DelayLine
from robopolicy_sim.robot import make_robot

pytestmark = pytest.mark.realtime

MOTION = ProbeMotion(amplitude=0.02, seconds=1.8, cycles=3)
CLOSING = ProbeMotion(amplitude=-0.02, seconds=1.8, cycles=3)
UP, GRIPPER = 2, 6


def measured(latency):
    """Delays of the arm, its gripper and its cameras, and the age of the youngest state that arrived [s]."""
    with make_robot(SimulatedRobotConfig(latency=latency)) as robot, robot.cameras[0] as camera:
        recording = record_motion(robot, (camera,), UP, MOTION)
        gripper = record_motion(robot, (), GRIPPER, CLOSING)
        ages = [now_ns() - robot.state()[0] for _ in range(2000)]
    delays = [recording.device_delay(), gripper.device_delay(), recording.camera_delay("camera0_rgb")]
    return np.array([*(delay.seconds for delay in delays), 1e-9 * min(ages)])


def test_each_latency_is_measured_as_it_was_set():
    latency = LatencyConfig(state=0.024, command=0.07, gripper=0.11, camera=0.09)
    difference = measured(latency) - measured(LatencyConfig())
    np.testing.assert_allclose(difference, [0.07, 0.11, 0.09, 0.024], atol=0.006)


def test_a_late_robot_conforms_and_shows_the_scene_that_it_was_reset_to():
    config = SimulatedRobotConfig(latency=LatencyConfig(0.03, 0.05, 0.05, 0.1))
    check_driver(lambda: make_robot(config))
    with make_robot(config) as robot, robot.cameras[0] as camera:
        robot.reset(4)
        _, state = robot.state()
        _, images = camera.read()
    with make_robot(SimulatedRobotConfig()) as robot, robot.cameras[0] as camera:
        robot.reset(4)
        np.testing.assert_allclose(robot.state()[1]["robot0_eef_pos"], state["robot0_eef_pos"], atol=1e-3)
        for key, image in camera.read()[1].items():
            assert np.abs(image.astype(int) - images[key]).mean() < 1.0


def test_a_command_that_is_on_its_way_is_forgotten_at_a_stop_or_hold():
    with make_robot(SimulatedRobotConfig(latency=LatencyConfig(command=0.3, gripper=0.3))) as robot:
        start = here(robot)
        for undo in (lambda: robot.stop("the red button"), robot.hold):
            robot.command(moved(start, z=0.05), now_ns())
            undo()
            robot.release()
            time.sleep(0.6)
            np.testing.assert_allclose(here(robot)[:3], start[:3], atol=1e-3)
        assert go(robot, moved(start, z=0.05)) < 2e-3


delays = st.floats(0.0, 1.0)


@given(delays, st.lists(delays, max_size=20))
def test_a_delay_line_loses_nothing_and_keeps_the_order(delay_s, gaps):
    line, period_s = DelayLine(delay_s, 0.01), 0.01
    times = np.cumsum([seconds_to_ns(gap) for gap in gaps]).astype(int).tolist()
    arrived, put = [], 0
    for tick in range(round((sum(gaps) + delay_s) / period_s) + 3):
        now = seconds_to_ns(tick * period_s)
        while put < len(times) and times[put] <= now:
            line.put((put, times[put]), times[put])
            put += 1
        for number, at_ns in line.due(now):
            arrived.append(number)
            assert abs(now - at_ns - seconds_to_ns(delay_s)) <= seconds_to_ns(1.01 * period_s)
    assert arrived == list(range(len(times)))


def test_the_latencies_of_an_embodiment_are_those_of_its_file():
    robot = make_robot(SimulatedRobotConfig(latency=LatencyConfig(embodiment=True)))
    assert robot.latencies == load_embodiment("ur5e").latencies


@pytest.mark.parametrize(
    ("body", "latency", "message"),
    [
        ("flying_gripper", LatencyConfig(embodiment=True), "nobody has measured .* 'flying_gripper'"),
        ("ur5e", LatencyConfig(command=0.1), "gripper is 0.0 s and command 0.1 s"),
        ("ur5e", LatencyConfig(state=-0.1), "latencies"),
    ],
)
def test_impossible_latencies_are_refused(body, latency, message):
    with pytest.raises(ConfigError, match=message):
        make_robot(SimulatedRobotConfig(embodiment=body, latency=latency))
