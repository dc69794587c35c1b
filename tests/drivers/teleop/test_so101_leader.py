"""A leader on its servo bus leads a follower on another: own emulators of both, and Feetech's SDK."""

import numpy as np
import pytest
from device_targets import wait_until
from emulated import Emulated

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.arms.feetech import servo_names
from robopolicy_drivers.arms.feetech_bus import ServoBus
from robopolicy_drivers.arms.feetech_calibration import write_joints
from robopolicy_drivers.arms.gripping_arm import GrippingArm
from robopolicy_drivers.arms.so101 import So101Config
from robopolicy_drivers.calibration.joints import JointCalibration, save_joints
from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_drivers.teleop.configs import LeaderConfig
from robopolicy_drivers.teleop.leader import Follow, LeaderTeleop
from robopolicy_drivers.teleop.steering import BUTTONS, Steering

pytest.importorskip("scservo_sdk", reason="the extra 'feetech' is not installed")
pytestmark = pytest.mark.realtime
NAMES = servo_names(load_embodiment("so101"))
RADIANS = 2 * np.pi / 4096  # of a count


class Bus(Emulated):
    """The emulator of a calibrated arm."""

    def __init__(self, calibration):
        super().__init__("feetech_servos")
        (self.port,), self.calibration = self.told, str(calibration)
        joints = [JointCalibration(name, servo, 0, 898, 3198) for servo, name in NAMES.items()]
        bus = ServoBus(self.port, NAMES)
        bus.open()
        write_joints(bus, joints)
        bus.close()
        save_joints(calibration, "so101", joints)


class NoButtons:
    """In the place of the device with the buttons."""

    def connect(self):
        pass

    def close(self):
        pass

    def steering(self):
        return Steering(np.zeros(6), True, np.zeros(len(BUTTONS), np.int64))


@pytest.fixture
def buses(tmp_path):
    with Bus(tmp_path / "leader.json") as leader, Bus(tmp_path / "follower.json") as follower:
        yield leader, follower


def told(teleop):
    """Returns what is told of a leader that is lost."""
    try:
        teleop.poll()
    except DeviceError as error:
        return str(error)
    return ""


def test_the_follower_does_what_the_leader_does_until_its_cable_is_cut(buses, reaction):
    leader, follower = buses
    config = So101Config(port=follower.port, calibration=follower.calibration, action="joint")
    with GrippingArm(config) as robot:
        teleop = LeaderTeleop(LeaderConfig(port=leader.port, calibration=leader.calibration), robot)
        teleop._buttons = NoButtons()
        with teleop:
            state = robot.state()[1]
            start = np.concatenate([state["robot0_joint_pos"], state["robot0_gripper_width"]])
            last = start

            def moved_by(joint, way):
                """Lets the robot follow; returns whether a joint is that far from where it was."""
                nonlocal last
                teleop.poll()
                last = robot.command(teleop.command(robot.state()[1], last), now_ns() + seconds_to_ns(0.05))
                here = robot.state()[1]["robot0_joint_pos"]
                return teleop.follow is Follow.FOLLOWING and abs(here[joint] - start[joint] - way) < 0.02

            assert wait_until(lambda: moved_by(0, 0.0), pause_s=0.02)
            leader.say("push 1 -400")
            leader.say("push 6 -400")
            assert wait_until(lambda: moved_by(0, -400 * RADIANS), pause_s=0.02)

            def gripped():
                return moved_by(0, -400 * RADIANS) and last[-1] < start[-1] - 0.005

            assert wait_until(gripped, pause_s=0.02)
            leader.say("cut")

            reaction("a leader's bus whose cable is cut", lambda: "Check the USB cable" in told(teleop))
            robot.hold()
