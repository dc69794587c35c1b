"""A vehicle over MAVLink and an arm with its own protocol are one robot: an aerial manipulator."""

import numpy as np
from device_targets import wait_until
from flights import flight, here, soon
from practice_arm import PracticeArmConfig

from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.arms.arm import Arm
from robopolicy_drivers.composition import CompositeRobot


def test_a_vehicle_with_an_arm_is_one_robot(simulated, tmp_path):
    with flight(simulated, set_point="attitude", hover_thrust=0.592) as vehicle:
        arm = Arm(PracticeArmConfig(folder=str(tmp_path), embodiment="so101", action="joint"))
        robot = CompositeRobot([vehicle, arm])
        assert robot.layout == {"robot0": slice(0, 6), "robot1": slice(6, 11)}
        vehicle.close()
        with robot:
            joints = robot.state()[1]["robot1_joint_pos"].astype(float)
            start, reach = here(vehicle), np.full(5, 0.1)
            goal = np.concatenate([start + np.array([0.2, 0.1, 0.0, 0.0, 0.0, 0.0]), joints + reach])

            def arrived():
                robot.command(goal, soon(0.3))
                state = robot.state()[1]
                place, turned = state["robot0_eef_pos"] - goal[:3], state["robot1_joint_pos"] - goal[6:]
                return np.linalg.norm(place) < 0.05 and np.abs(turned).max() < 0.01

            assert wait_until(arrived, pause_s=0.05)
            (tmp_path / "fault").write_text("The arm's protective stop is on.")
            assert wait_until(lambda: refused(robot, goal), pause_s=0.02)
            assert "protective stop" in refused(robot, goal)
            robot.stop("both")
            assert "both" in str(refused(robot, goal))
            where = simulated.truth().data["position"]
            assert np.linalg.norm(where - start[:3]) < 0.5  # it hovers
            (tmp_path / "fault").unlink()
            robot.release()
            robot.command(robot_holds(robot), soon())


def robot_holds(robot):
    state = robot.state()[1]
    keys = ("robot0_eef_pos", "robot0_eef_rot_axis_angle", "robot1_joint_pos")
    return np.concatenate([state[key] for key in keys])


def refused(robot, target):
    try:
        robot.command(target, soon())
    except DeviceError as error:
        return str(error)
    return ""
