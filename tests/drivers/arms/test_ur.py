"""Universal Robots arms: ur_rtde's real client against our own emulator of a controller."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest
from device_targets import wait_until
from hypothesis import given
from hypothesis import strategies as st
from ur_peer import EmulatedUr, RtdeClient, open_link, soon

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.geometry import pose_matrix, quaternion_to_matrix
from robopolicy_drivers.arms.arm import Arm
from robopolicy_drivers.arms.ur import UrConfig
from robopolicy_drivers.conformance import check_driver
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.embodiments import load_embodiment

pytest.importorskip("rtde_control", reason="the extra 'ur' is not installed")

sys.path.append(str(Path(__file__).parents[1] / "emulators"))
import ur_model

pytestmark = pytest.mark.realtime

PERIOD_S = 0.008


@pytest.mark.parametrize(("action", "rate_hz"), [("pose", 125.0), ("joint", 500.0)])
def test_an_arm_conforms(controller, action, rate_hz):
    assert check_driver(lambda: Arm(UrConfig(host=controller.host, action=action, rate_hz=rate_hz)))
    assert controller.asked("running") == "Program running: false"  # closing has ended the program


def test_a_controller_of_the_older_generation_is_spoken_to_at_125_hz():
    with EmulatedUr(version="3.15.8.0") as old:
        with pytest.raises(DeviceError, match=r"takes at most 125 set points"):
            open_link(old.host, rate_hz=500.0)
        # The emulator's arm is that of an e-Series; no embodiment of the older arms is among ours.
        with pytest.raises(DeviceError, match=r"embodiment 'ur5'; robot\.embodiment is 'ur5e'"):
            open_link(old.host)


def test_a_path_of_poses_is_followed(controller, record_property):
    with Arm(UrConfig(host=controller.host, lookahead=0.03)) as arm:
        state = arm.state()[1]
        start = np.concatenate([state["robot0_eef_pos"], state["robot0_eef_rot_axis_angle"]])
        begun, wanted = now_ns(), []
        for step in range(round(2.0 / PERIOD_S)):
            at_ns = begun + seconds_to_ns(0.1 + step * PERIOD_S)
            goal = start + circle(step * PERIOD_S)
            arm.command(goal, at_ns)
            wanted.append((at_ns, goal[:3]))
            time.sleep(max(0.0, 1e-9 * (at_ns - now_ns()) - 0.05))
        records = arm.ring.history(200)
    error_mm, lag_s = best_lag(records, wanted)
    record_property("error_mm", error_mm)
    print(f"circle at 0.1 m/s: error {error_mm:.2f} mm (largest), lag {1e3 * lag_s:.0f} ms")
    assert error_mm < 10.0


def circle(time_s, radius=0.05, speed=0.1):
    angle = speed / radius * time_s
    return np.array([0.0, radius * np.sin(angle), radius * (np.cos(angle) - 1.0), 0.0, 0.0, 0.0])


def best_lag(records, wanted):
    """Returns the largest distance [mm] from the path as it was commanded, at the lag [s] that fits best."""
    times = np.array([record.time_ns for record in records])
    places = np.array([record.data["robot0_eef_pos"] for record in records])
    goal_times, goals = np.array([one[0] for one in wanted]), np.array([one[1] for one in wanted])
    inside = times > goal_times[0] + seconds_to_ns(0.5)

    def error(lag_s):
        at = times[inside] - seconds_to_ns(lag_s)
        path = np.stack([np.interp(at, goal_times, goals[:, axis]) for axis in range(3)], axis=1)
        return float(np.linalg.norm(places[inside] - path, axis=1).max())

    lags = np.arange(0.0, 0.25, 0.002)
    best = min(lags, key=error)
    return 1e3 * error(best), float(best)


def test_the_force_at_the_tool_is_read_and_stops_beyond_its_limit(controller):
    with Arm(UrConfig(host=controller.host, force_limit=30.0)) as arm:
        controller.say("force 1 -2 20 0.1 0.2 -0.3")
        wrench = [1.0, -2.0, 20.0, 0.1, 0.2, -0.3]
        assert wait_until(lambda: np.allclose(arm.state()[1]["robot0_wrench"], wrench))
        controller.say("force 0 0 31 0 0 0")
        assert wait_until(lambda: arm.ring.newest().data["stopped"])
        assert any("30 N" in event.text for event in arm.safety_events())


def test_registers_that_another_client_writes_are_refused(controller):
    with RtdeClient(controller.host) as other:
        assert other.claim("input_int_register_0").startswith(b"\x01INT32")
        with pytest.raises(DeviceError, match=r"Another program or a fieldbus.*EtherNet/IP"):
            open_link(controller.host)
    with Arm(UrConfig(host=controller.host)) as arm, RtdeClient(controller.host) as other:
        assert b"IN_USE" in other.claim("input_int_register_0")  # and the other way round
        assert goes_on_in_poses(arm)


def goes_on_in_poses(arm):
    state = arm.state()[1]
    goal = np.concatenate([state["robot0_eef_pos"], state["robot0_eef_rot_axis_angle"]])
    goal[2] += 0.02
    arm.command(goal, soon(0.3))
    return wait_until(lambda: abs(arm.state()[1]["robot0_eef_pos"][2] - goal[2]) < 1e-3)


@given(st.lists(st.floats(-np.pi, np.pi), min_size=6, max_size=6), st.sampled_from(ur_model.MODELS))
def test_embodiments_stand_where_the_published_parameters_say(positions, model):
    embodiment = load_embodiment(model.lower())
    flange, tcp = (
        pose_matrix(np.array(pose.position), quaternion_to_matrix(np.array(pose.quaternion)))
        for pose in (embodiment.flange, embodiment.tcp)
    )
    from_dh = ur_model.forward(model, np.array(positions)) @ np.linalg.inv(flange) @ tcp
    np.testing.assert_allclose(Kinematics(embodiment).forward(np.array(positions)), from_dh, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "degrees_a_second"),
    [("ur3e", [180] * 3 + [360] * 3), ("ur5e", [180] * 6), ("ur10e", [120, 120, 180, 180, 180, 180])],
)
def test_speed_limits_are_those_of_the_data_sheets(name, degrees_a_second):
    limits = load_embodiment(name).velocity_limits
    np.testing.assert_allclose(np.degrees(limits), degrees_a_second)
