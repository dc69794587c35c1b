"""What every arm with a link has from the spine: both kinds of actions, limits, faults, and a cut cable."""

import threading
import time

import numpy as np
import pytest
from device_targets import fails, wait_until
from practice_arm import PracticeArmConfig, PracticeLink

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import ConfigError, DeviceError, UnknownNameError
from robopolicy_drivers.arms.arm import Arm, ArmController
from robopolicy_drivers.conformance import check_driver
from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_drivers.interfaces import GoesHome, IsGuarded, RecallsStates, ReportsCycles, ReportsLateness
from robopolicy_drivers.safety.configs import SafetyConfig

pytestmark = pytest.mark.realtime


@pytest.fixture
def make(tmp_path):
    arms = []

    def build(**settings):
        arms.append(Arm(PracticeArmConfig(folder=str(tmp_path), **settings)))
        return arms[-1]

    yield build
    for arm in arms:
        arm.close()


def pose(arm):
    state = arm.state()[1]
    return np.concatenate([state["robot0_eef_pos"], state["robot0_eef_rot_axis_angle"]])


def soon(seconds=0.3):
    return now_ns() + seconds_to_ns(seconds)


@pytest.mark.parametrize("action", ["pose", "joint"])
def test_an_arm_conforms(make, action):
    assert check_driver(lambda: make(action=action))
    assert isinstance(make(action=action), IsGuarded | RecallsStates | ReportsLateness | ReportsCycles)
    assert isinstance(make(action=action), GoesHome)


def test_poses_are_reached_in_the_world_wherever_the_base_stands(make, tmp_path_factory):
    turned = [np.cos(np.pi / 4), 0.0, 0.0, np.sin(np.pi / 4)]  # 90 degrees about z
    with make(base_position=[1.0, 0.5, 0.2], base_quaternion=turned) as arm:
        with Arm(PracticeArmConfig(folder=str(tmp_path_factory.mktemp("other")))) as plain:
            straight = pose(plain)
        start = pose(arm)
        x, y, z = straight[:3]
        np.testing.assert_allclose(start[:3], [1.0 - y, 0.5 + x, 0.2 + z], atol=1e-5)
        goal = start + np.array([0.0, 0.05, -0.02, 0.0, 0.0, 0.0])
        arm.command(goal, soon())
        assert wait_until(lambda: np.abs(pose(arm) - goal).max() < 1e-3)


def test_joints_are_reached_within_their_limits(make):
    limits = load_embodiment("ur5e").velocity_limits
    with make(action="joint") as arm:
        goal = arm.state()[1]["robot0_joint_pos"] + [0.3, -0.2, 0.1, 0.0, 0.0, 0.5]
        arm.command(goal, soon(0.0))  # at once: as soon as the limits allow
        assert wait_until(lambda: np.abs(arm.state()[1]["robot0_joint_pos"] - goal).max() < 1e-3)
        records = arm.ring.history(200)
        speeds = np.abs(np.diff([record.data["robot0_joint_pos"] for record in records], axis=0)) * 125.0
        assert speeds.max() > 0.5
        assert (speeds < 1.5 * limits).all()  # measured between two ticks, which may be late


@pytest.mark.parametrize("action", ["pose", "joint"])
def test_the_tool_stays_in_its_box_however_the_arm_is_commanded(make, action):
    with make(action=action) as arm:
        x, y, z = arm.state()[1]["robot0_eef_pos"].tolist()
    lower, upper = [x - 1.0, y - 1.0, z - 0.05], [x + 1.0, y + 1.0, z + 1.0]
    with make(action=action, workspace_lower=lower, workspace_upper=upper) as arm:
        if action == "joint":
            goal = arm.state()[1]["robot0_joint_pos"] + np.array([0.0, 0.4, 0.0, 0.0, 0.0, 0.0])
        else:
            goal = pose(arm) - np.array([0.0, 0.0, 0.15, 0.0, 0.0, 0.0])
        for _ in range(100):
            arm.command(goal, soon(0.2))
            time.sleep(0.01)
        heights = [record.data["robot0_eef_pos"][2] for record in arm.ring.history(200)]
        assert min(heights) < z - 0.02
        assert min(heights) > z - 0.05 - 1e-3
        assert any("the tool stays between" in event.text for event in arm.safety_events())


@pytest.mark.parametrize(
    "settings",
    [
        {"base_quaternion": [0.0, 0.0, 0.0, 0.0]},
        {"base_quaternion": [1.0, 0.0, 0.0]},
        {"base_position": [0.0, float("nan"), 0.0]},
        {"workspace_lower": [-1.0, -1.0]},
    ],
)
def test_places_that_are_none_are_refused(make, settings):
    with pytest.raises(ConfigError, match=f"robot.{next(iter(settings))} is .*; give"):
        make(**settings)


def test_a_large_step_of_joints_stops(make):
    with make(action="joint") as arm:
        goal = arm.state()[1]["robot0_joint_pos"] + np.array([0, 0, 2.1, 0, 0, 0])
        arm.command(goal, soon())
        assert wait_until(lambda: arm.ring.newest().data["stopped"])
        with pytest.raises(DeviceError, match=r"a joint is 2\.1 rad .* at most 2 rad"):
            arm.command(goal, soon())


def test_a_fault_latches_and_is_recovered_from_where_the_arm_stands(make, tmp_path):
    with make() as arm:
        before = pose(arm)
        (tmp_path / "fault").write_text("The arm has bumped into something.")
        assert wait_until(lambda: arm.ring.newest().data["stopped"])
        with pytest.raises(DeviceError, match="bumped"):
            arm.command(before, soon())
        with pytest.raises(DeviceError, match="Mend it first"):
            arm.release()
        (tmp_path / "fault").unlink()
        with pytest.raises(DeviceError, match="bumped"):  # the stop has latched, although its cause is gone
            arm.command(before, soon())
        arm.release()
        goal = before + np.array([0.0, 0.0, 0.02, 0.0, 0.0, 0.0])
        arm.command(goal, soon())
        assert wait_until(lambda: np.abs(pose(arm) - goal).max() < 1e-3)
        assert [event.text for event in arm.safety_events()].count("The arm has bumped into something.") == 1


def test_a_force_beyond_the_limit_stops(make, tmp_path):
    with make(force_limit=30.0) as arm:
        (tmp_path / "force").write_text("29")
        time.sleep(0.1)
        assert not arm.ring.newest().data["stopped"]
        (tmp_path / "force").write_text("31")
        assert wait_until(lambda: arm.ring.newest().data["stopped"])
        assert any("30 N" in event.text for event in arm.safety_events())


AWKWARD = {
    "low": ("ur5e", "2.54 -1.05 1.65 -2.17 -1.57 -2.17"),
    "stretched out": ("ur5e", "2.36 -0.3 0.0 -0.6 -1.57 0.0"),
    "at three limits": ("fr3", "-0.6 1.2 0.4 -0.16 0.0 4.5 3.0"),
}


def joints(arm):
    return arm.state()[1]["robot0_joint_pos"]


def standing(make, tmp_path, where, **settings):
    """Returns an arm that is not connected and stands in an awkward posture."""
    embodiment, start = AWKWARD[where]
    (tmp_path / "start").write_text(start)
    return make(embodiment=embodiment, **settings)


@pytest.mark.parametrize(("where", "action"), [*((where, "pose") for where in AWKWARD), ("low", "joint")])
def test_it_goes_home_from_awkward_postures_and_takes_commands_there(make, tmp_path, where, action):
    with standing(make, tmp_path, where, action=action) as arm:
        home = arm.embodiment.home_positions
        assert np.abs(joints(arm) - home).max() > 0.5
        arm.go_home()
        assert wait_until(lambda: np.abs(joints(arm) - home).max() < 2e-3)
        place = pose if action == "pose" else joints
        goal = place(arm) + np.array([0.0, 0.02, 0.02] + [0.0] * (len(place(arm)) - 3))
        arm.command(goal, soon())
        assert wait_until(lambda: np.abs(place(arm) - goal).max() < 2e-3)
        assert not [event for event in arm.safety_events() if event.data["limit"] in ("stop", "position")]


@pytest.mark.parametrize("cause", ["stop", "fault"])
def test_a_stop_or_a_fault_on_the_way_home_ends_it_with_its_text(make, tmp_path, cause):
    with standing(make, tmp_path, "low") as arm:
        start = joints(arm)

        def interrupt():
            assert wait_until(lambda: np.abs(joints(arm) - start).max() > 0.05)
            if cause == "stop":
                arm.stop("The arm is in somebody's way.")
            else:
                (tmp_path / "fault").write_text("The arm is in somebody's way.")

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(DeviceError, match="somebody's way"):
            arm.go_home()
        thread.join()
        (tmp_path / "fault").unlink(missing_ok=True)
        rest = joints(arm)
        assert np.abs(rest - arm.embodiment.home_positions).max() > 0.1
        arm.release()
        goal = pose(arm) + np.array([0.0, 0.0, 0.02, 0.0, 0.0, 0.0])
        arm.command(goal, soon())
        assert wait_until(lambda: np.abs(pose(arm) - goal).max() < 1e-3)
        arm.go_home()
        assert wait_until(lambda: np.abs(joints(arm) - arm.embodiment.home_positions).max() < 2e-3)


def test_a_command_takes_over_from_the_way_home(tmp_path):
    embodiment, start = AWKWARD["low"]
    (tmp_path / "start").write_text(start)
    safety = SafetyConfig(stale_state_s=1e3)  # the time of the ticks is made up
    config = PracticeArmConfig(folder=str(tmp_path), embodiment=embodiment, action="joint", safety=safety)
    link = PracticeLink(config)
    controller, now = ArmController(link, config), now_ns()
    goal = link.positions + 0.1

    def tick(number):
        for _ in range(number):
            nonlocal now
            now += seconds_to_ns(1.0 / config.rate_hz)
            controller.observe()
            controller.tick(now)

    assert not controller.home(now)
    tick(100)
    controller.command(goal, now, now)
    tick(1)
    turn = link.target.copy()
    tick(60)
    assert np.abs(link.target - turn).max() > 0.05
    np.testing.assert_allclose(link.target, goal, atol=1e-6)


def test_a_wall_on_the_way_home_is_told(make, tmp_path):
    with standing(make, tmp_path, "low", workspace_upper=[2.0, 2.0, 0.15]) as arm:
        with pytest.raises(DeviceError, match=r"blocked: the tool stays between"):
            arm.go_home()
        assert pose(arm)[2] < 0.16


def test_a_cut_cable_ends_the_process_with_its_words(make, tmp_path):
    with make() as arm:
        (tmp_path / "cut").write_text("yes")
        assert wait_until(lambda: (tmp_path / "closed").exists())
        assert wait_until(lambda: fails(arm, arm.state))
        with pytest.raises(DeviceError, match="plug in its cable"):
            arm.state()
        (tmp_path / "cut").unlink()
        arm.close()
        arm.connect()
        assert arm.state()[0] > 0


def test_what_cannot_be_opened_is_told(make, tmp_path):
    (tmp_path / "locked").write_text("yes")
    with pytest.raises(DeviceError, match="remove the file 'locked'"):
        make().connect()


def test_two_programs_do_not_share_an_arm(make):
    with make(), pytest.raises(DeviceError, match="in use"):
        make().connect()


def test_misspelt_settings_are_refused(make):
    with pytest.raises(UnknownNameError, match="pose"):
        make(action="poses")
    with pytest.raises(UnknownNameError, match="ur5e"):
        make(embodiment="ur5")
