"""A vehicle over MAVLink and an SO-101 over its servo bus (own emulator) are one robot that flies."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from device_targets import wait_until
from flights import flight, here, soon

from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.arms.feetech import So101Config, servo_names
from robopolicy_drivers.arms.feetech_bus import ServoBus
from robopolicy_drivers.arms.feetech_calibration import write_joints
from robopolicy_drivers.arms.gripping_arm import GrippingArm
from robopolicy_drivers.calibration.joints import JointCalibration, save_joints
from robopolicy_drivers.composition import CompositeRobot
from robopolicy_drivers.embodiments import load_embodiment

pytestmark = pytest.mark.realtime

SERVOS = Path(__file__).parents[1] / "emulators" / "feetech_servos.py"


@pytest.fixture
def servos():
    pytest.importorskip("scservo_sdk", reason="the extra 'feetech' is not installed")
    process = subprocess.Popen(
        [sys.executable, SERVOS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        yield process
        process.kill()


@pytest.fixture
def arm(servos, tmp_path):
    port, names = servos.stdout.readline().strip(), servo_names(load_embodiment("so101"))
    joints = [JointCalibration(name, servo, 0, 898, 3198) for servo, name in names.items()]
    bus = ServoBus(port, names)
    bus.open()
    write_joints(bus, joints)
    bus.close()
    save_joints(tmp_path / "so101.json", "so101", joints)
    return GrippingArm(So101Config(port=port, calibration=str(tmp_path / "so101.json"), action="joint"))


def test_a_vehicle_with_an_arm_is_one_robot(simulated, servos, arm):
    with flight(simulated, set_point="attitude", hover_thrust=0.592) as vehicle:
        robot = CompositeRobot([vehicle, arm])
        assert robot.layout == {"robot0": slice(0, 6), "robot1": slice(6, 12)}
        vehicle.close()
        with robot:
            start = holding(robot)
            goal = start + np.array([0.2, 0.1, 0, 0, 0, 0, 0.2, 0.1, -0.1, 0.1, 0.2, 0])

            def arrived():
                robot.command(goal, soon(0.3))
                far = np.abs(holding(robot) - goal)
                return np.linalg.norm(far[:3]) < 0.05 and far[6:11].max() < 0.02

            assert wait_until(arrived, pause_s=0.05)
            servos.stdin.write("error 1 32\n")  # a servo of the arm is overloaded
            servos.stdin.flush()
            assert wait_until(lambda: "overload" in refused(robot, goal), pause_s=0.05)
            robot.stop("the red button")
            assert "the red button" in refused(vehicle, goal[:6])
            assert np.linalg.norm(here(vehicle)[:3] - goal[:3]) < 0.3  # it hovers
            vehicle.release()
            vehicle.land()  # the arm hangs, and the vehicle brings it home
            assert not simulated.truth().data["armed"]


def holding(robot):
    state = robot.state()[1]
    keys = ("robot0_eef_pos", "robot0_eef_rot_axis_angle", "robot1_joint_pos", "robot1_gripper_width")
    return np.concatenate([state[key] for key in keys]).astype(float)


def refused(robot, target):
    try:
        robot.command(target, soon())
    except DeviceError as error:
        return str(error)
    return ""
