"""Latency of the simulated robot and its cameras, measured by moving it, with and without a known delay."""

import pytest

from robopolicy_datasets.clock import seconds_to_ns
from robopolicy_datasets.errors import ConfigError, DeviceError
from robopolicy_drivers.calibration.motion import ProbeMotion
from robopolicy_drivers.calibration.probing import record_motion
from robopolicy_sim.configs import SimulatedRobotConfig
from robopolicy_sim.robot import make_robot

pytestmark = pytest.mark.realtime

MOTION = ProbeMotion(amplitude=0.02, seconds=3.0, cycles=3)
UP = 2


@pytest.fixture(scope="module")
def robot():
    with make_robot(SimulatedRobotConfig()) as robot:
        robot.cameras[0].connect()
        yield robot


class LateRobot:
    """A robot that does everything later than it was commanded to."""

    def __init__(self, robot, late_s):
        self.robot, self.late_ns, self.spec = robot, seconds_to_ns(late_s), robot.spec
        self.state, self.hold = robot.state, robot.hold

    def command(self, target, at_ns):
        return self.robot.command(target, at_ns + self.late_ns)


class LateCamera:
    """A camera whose time stamps say when the image arrived, not when it was taken."""

    def __init__(self, camera, late_s):
        self.camera, self.late_ns = camera, seconds_to_ns(late_s)

    def read(self):
        time_ns, images = self.camera.read()
        return time_ns + self.late_ns, images


@pytest.mark.parametrize("entry", [UP, 6], ids=["arm", "gripper"])
def test_a_known_delay_of_a_device_is_measured(robot, entry):
    amplitude = 0.02 if entry == UP else -0.02
    motion = ProbeMotion(amplitude, MOTION.seconds, MOTION.cycles)
    usual = record_motion(robot, (), entry, motion).device_delay()
    late = record_motion(LateRobot(robot, 0.08), (), entry, motion).device_delay()
    assert abs(late.seconds - usual.seconds - 0.08) < 0.005
    assert usual.correlation > 0.99


def test_a_known_delay_of_a_camera_is_measured(robot):
    (camera,) = robot.cameras
    recording = record_motion(robot, (camera,), UP, MOTION)
    late = record_motion(robot, (LateCamera(camera, 0.12),), UP, MOTION)
    for key in ("camera0_rgb", "camera1_rgb"):
        usual_s, late_s = recording.camera_delay(key).seconds, late.camera_delay(key).seconds
        assert abs(usual_s) < 0.005  # the simulated camera stamps its images with the time of what they show
        assert abs(late_s - usual_s - 0.12) < 0.005


def test_a_robot_that_may_not_move_is_not_measured(robot):
    with pytest.raises(ConfigError, match="0 to 6"):
        record_motion(robot, (), 7, MOTION)
    robot.stop("the red button")
    try:
        with pytest.raises(DeviceError, match="the red button"):
            record_motion(robot, (), UP, MOTION)
    finally:
        robot.release()


def test_a_motion_that_the_device_cannot_make_is_no_measurement(robot):
    opening = record_motion(robot, (), 6, ProbeMotion(0.02, 1.0, 2))  # it is open already
    with pytest.raises(DeviceError, match=r"moved by .* where 0\.02 was asked"):
        opening.device_delay()
