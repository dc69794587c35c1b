"""The simulated robot through the driver interface: real processes, real time."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import ConfigError, DeviceError, SpecError
from robopolicy_datasets.geometry import pose_from_vector
from robopolicy_datasets.registry import robots
from robopolicy_drivers.conformance import check_driver
from robopolicy_drivers.control.differential_ik import DifferentialIK
from robopolicy_drivers.interfaces import BringsCameras, RecallsStates, ReportsCycles, ReportsLateness
from robopolicy_drivers.runtime.executor import run_episode
from robopolicy_drivers.safety.configs import SafetyConfig
from robopolicy_sim.configs import SimulatedRobotConfig
from robopolicy_sim.experts.configs import ScriptedConfig
from robopolicy_sim.experts.pick_place import PickPlaceExpert
from robopolicy_sim.robot import SimulatedRobot, make_robot
from robopolicy_sim.tasks.configs import PickPlaceConfig
from robopolicy_sim.tasks.manipulation import manipulation_spec, task_world
from robopolicy_sim.tasks.pick_place import PickPlaceEnv

pytestmark = pytest.mark.realtime


@pytest.fixture(scope="module")
def robot():
    with make_robot(SimulatedRobotConfig()) as robot:
        robot.cameras[0].connect()
        yield robot


@pytest.fixture(autouse=True)
def release(request):
    """A stop of one test does not last into the next one."""
    yield
    if "robot" in request.fixturenames:
        request.getfixturevalue("robot").release()


class ScriptedPolicy:
    """The expert, planning in a copy of the robot's world; its observations are only where it starts from."""

    observation_steps = 2
    action_steps = 4
    dt = 0.1
    spec = manipulation_spec(64)

    def __init__(self, robot):
        self.robot = robot
        self.world = task_world("pick_place", "ur5e")
        self.ik = DifferentialIK(self.world.robot.kinematics, period_s=self.dt)
        self.reset()

    def reset(self):
        self.expert = PickPlaceExpert(self.world, ScriptedConfig(0.0, 0.0), np.random.default_rng(0))

    def infer(self, observation, *, seeds=None):
        self.world.set_physics_state(self.robot.ring.newest().data["physics"])
        rows, before = [], self.expert.phase
        for index in range(12):
            rows.append(self.expert.act())
            if index == self.action_steps:
                before = self.expert.phase
            joints = self.ik.solve(
                pose_from_vector(rows[-1][None, :6]), self.world.robot.joint_targets[None]
            )[0]
            self.world.robot.set_targets(joints, rows[-1][6])
            self.world.step(25)
        self.expert.phase = before
        return np.array(rows)[None]


def test_it_conforms_to_the_driver_interface():
    passed = check_driver(lambda: make_robot(SimulatedRobotConfig()))
    assert len(passed) > 12
    assert robots.load("sim") is make_robot
    assert isinstance(SimulatedRobot(SimulatedRobotConfig()), RecallsStates | ReportsLateness)
    assert isinstance(SimulatedRobot(SimulatedRobotConfig()), BringsCameras)


def test_reset_gives_the_scene_of_the_environment(robot):
    env = PickPlaceEnv(PickPlaceConfig())
    for seed in (3, 100_004):
        expected, _ = env.reset(seed=seed)
        robot.reset(seed)
        _, state = robot.state()
        _, images = robot.cameras[0].read()
        for key in ("robot0_eef_pos", "robot0_eef_rot_axis_angle", "robot0_gripper_width"):
            np.testing.assert_allclose(state[key], expected[key], atol=5e-3)
        for key, image in images.items():
            assert np.abs(image.astype(int) - expected[key]).mean() < 1.0
        assert not robot.success()


def test_a_target_is_reached_and_hold_holds(robot):
    robot.reset(1)
    _, state = robot.state()
    start = state["robot0_eef_pos"]
    target = np.concatenate([start + np.array([0.05, 0.0, -0.08]), state["robot0_eef_rot_axis_angle"], [0.5]])
    sent = robot.command(target, now_ns() + seconds_to_ns(0.4))
    assert sent[6] == pytest.approx(0.085)
    assert wait_until(lambda: np.linalg.norm(robot.state()[1]["robot0_eef_pos"] - target[:3]) < 0.002)
    robot.command(np.concatenate([start, target[3:]]), now_ns() + seconds_to_ns(20.0))
    robot.hold()
    time.sleep(0.3)
    held = robot.state()[1]["robot0_eef_pos"]
    time.sleep(0.3)
    np.testing.assert_allclose(robot.state()[1]["robot0_eef_pos"], held, atol=5e-4)
    assert np.linalg.norm(held - start) > 0.02


def here(robot):
    _, state = robot.state()
    keys = ("robot0_eef_pos", "robot0_eef_rot_axis_angle", "robot0_gripper_width")
    return np.concatenate([state[key] for key in keys]).astype(float)


def moved(pose, x=0.0, y=0.0, z=0.0):
    return pose + np.array([x, y, z, 0, 0, 0, 0])


def test_a_stop_brakes_latches_and_survives_a_reset(robot):
    robot.reset(1)
    start = here(robot)
    robot.command(moved(start, 0.2), now_ns() + seconds_to_ns(0.5))
    assert wait_until(lambda: here(robot)[0] > start[0] + 0.03)
    robot.stop("the red button")
    stopped_at = here(robot)
    for reset in (False, True):
        if reset:
            robot.reset(2)
            stopped_at = here(robot)
        with pytest.raises(DeviceError, match=r"was stopped: the red button\. Nothing is commanded until"):
            robot.command(start, now_ns())
        time.sleep(0.3)
        assert np.abs(here(robot)[:3] - stopped_at[:3]).max() < 0.06  # it brakes, and that is all
    robot.release()
    target = moved(here(robot), z=0.05)
    robot.command(target, now_ns())
    assert wait_until(lambda: np.abs(here(robot)[:3] - target[:3]).max() < 0.005)
    events = [event for event in robot.safety_events() if event.data["limit"] == "stop"]
    assert [event.text for event in events][:1] == ["the red button"]


def test_the_tool_does_not_leave_its_workspace():
    config = SimulatedRobotConfig(safety=SafetyConfig())
    with make_robot(config) as robot:
        start = here(robot)
        below = start.copy()
        below[2] = -0.15  # under the table
        until = now_ns() + seconds_to_ns(1.0)
        while now_ns() < until + seconds_to_ns(0.5):
            robot.command(below, until)
            time.sleep(0.1)
        assert here(robot)[2] > -0.005
        assert "workspace" in {event.data["limit"] for event in robot.safety_events()}
        for _ in range(20):
            robot.command(start, now_ns() + seconds_to_ns(0.2))
            time.sleep(0.1)
        assert np.abs(here(robot)[:3] - start[:3]).max() < 0.01


def test_an_absurd_target_stops():
    with make_robot(SimulatedRobotConfig(safety=SafetyConfig())) as robot:
        start = here(robot)
        robot.command(moved(start, -0.8, 0.3), now_ns())
        assert wait_until(lambda: raises(lambda: robot.command(start, now_ns())))
        with pytest.raises(
            DeviceError, match=r"0\.854 m and .* from the one before was commanded; a step is at most 0\.5"
        ):
            robot.command(start, now_ns())
        assert np.abs(here(robot)[:3] - start[:3]).max() < 0.01


def test_a_robot_whose_commands_stop_coming_holds():
    """Its policy was killed: what it planned for later is not done."""
    with make_robot(SimulatedRobotConfig()) as robot:
        start = here(robot)
        for seconds in (2.0, 4.0, 6.0):
            robot.command(moved(start, 0.05 * seconds), now_ns() + seconds_to_ns(seconds))
        time.sleep(1.2)
        held = here(robot)
        time.sleep(0.5)
        np.testing.assert_allclose(here(robot)[:3], held[:3], atol=1e-3)
        assert held[0] < start[0] + 0.08
        assert "stale_command" in {event.data["limit"] for event in robot.safety_events()}
        robot.command(start, now_ns())
        assert wait_until(lambda: np.abs(here(robot)[:3] - start[:3]).max() < 0.005)


def test_states_are_recalled_by_time_and_images_carry_the_time_of_their_state(robot):
    image_ns, images = robot.cameras[0].read()
    state_ns, _ = robot.state_at(image_ns)
    assert state_ns == image_ns
    assert set(images) == {"camera0_rgb", "camera1_rgb"}
    newest_ns, _ = robot.state()
    assert robot.state_at(newest_ns + seconds_to_ns(5.0))[0] >= newest_ns


def test_wrong_commands_are_refused(robot):
    with pytest.raises(SpecError, match=r"\[7\].*axis-angle"):
        robot.command(np.zeros(6), now_ns())
    with pytest.raises(SpecError, match="finite"):
        robot.command(np.full(7, np.inf), now_ns())
    with pytest.raises(ConfigError, match="monotonic"):
        robot.command(np.zeros(7), time.time_ns())
    with pytest.raises(DeviceError, match="connected already"):
        robot.connect()


def test_a_scripted_policy_places_the_cube_in_real_time(robot):
    robot.reset(7)
    policy = ScriptedPolicy(robot)
    report = run_episode(robot, robot.cameras, policy, duration_s=30.0, stop_when=robot.success)
    assert report.success
    assert report.robot.ticks > 50
    assert report.actions > 10


def test_a_killed_robot_is_an_error_at_once_and_the_robot_can_be_connected_again():
    robot = make_robot(SimulatedRobotConfig())
    robot.connect()
    os.kill(robot.pid, signal.SIGKILL)
    assert wait_until(lambda: raises(robot.state))
    with pytest.raises(DeviceError, match="SIGKILL"):
        robot.command(np.zeros(7), now_ns())
    robot.close()
    assert Path("/proc/self/maps").read_text().count("memfd:robopolicy") <= 8
    robot.connect()
    os.kill(robot.pid, signal.SIGSTOP)
    assert wait_until(lambda: raises(robot.state))
    with pytest.raises(DeviceError, match="no sign of life"):
        robot.state()
    robot.close()
    robot.close()
    with pytest.raises(DeviceError, match="connect"):
        robot.state()


def test_the_camera_needs_the_robot():
    robot = make_robot(SimulatedRobotConfig())
    with pytest.raises(DeviceError, match="connect"):
        robot.cameras[0].read()
    with pytest.raises(DeviceError, match="connect"):
        robot.cameras[0].connect()


def raises(action) -> bool:
    try:
        action()
    except DeviceError:
        return True
    return False


def wait_until(condition, timeout_s: float = 20.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_it_tells_what_its_control_cycles_consist_of(robot):
    assert isinstance(robot, ReportsCycles)
    before = robot.cycles()
    robot.reset(1)
    assert wait_until(lambda: robot.cycles().cycles > before.cycles + 20)
    cycles = robot.cycles()
    sections = {section.name: section for section in cycles.sections}
    assert list(sections) == ["late start", "rest", "messages", "track", "physics", "publish"]
    assert sections["physics"].mean_ms > 0
    assert sum(section.mean_ms for section in cycles.sections) == pytest.approx(cycles.mean_ms, rel=0.05)
