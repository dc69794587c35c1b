"""Take-over, parking, retreat and slow-fast on the simulated arm: real processes, real time."""

import itertools
import time

import numpy as np
import pytest

from robopolicy_datasets.clock import seconds_to_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.runtime.configs import RuntimeConfig
from robopolicy_drivers.runtime.executor import run_episode
from robopolicy_drivers.runtime.gru_decoder import GruDecoder
from robopolicy_drivers.runtime.parking import park
from robopolicy_drivers.runtime.slow_fast import SlowFast, StateSensor
from robopolicy_drivers.runtime.spaces import FeatureSpace
from robopolicy_drivers.runtime.take_over import Clutch
from robopolicy_sim.configs import SimulatedRobotConfig
from robopolicy_sim.robot import make_robot

pytestmark = pytest.mark.realtime

POSE_KEYS = ("robot0_eef_pos", "robot0_eef_rot_axis_angle", "robot0_gripper_width")


@pytest.fixture(scope="module")
def arm():
    with make_robot(SimulatedRobotConfig()) as robot:
        yield robot


@pytest.fixture
def robot(arm):
    arm.release()
    arm.reset(1)
    return arm


def pose_of(state):
    return np.concatenate([state[key] for key in POSE_KEYS]).astype(float)


class Lowering:
    """From where the arm was seen, 1 cm a step down to a height; it holds its pose otherwise."""

    observation_steps, action_steps, dt = 1, 4, 0.1

    def __init__(self, robot, height):
        self.spec = robot.spec
        self.height = height

    def reset(self):
        pass

    def infer(self, observation, *, seeds=None):
        start = pose_of({key: observation[key][0, -1] for key in POSE_KEYS})
        rows = np.tile(start, (12, 1))
        rows[:, 2] = np.maximum(start[2] - 0.01 * np.arange(1, 13), self.height)
        return rows[None]


class Sideways:
    """A hand far from the arm that closes the clutch for some steps, and moves and turns as it does."""

    def __init__(self, begin, end):
        self.span = range(begin, end)
        self.reads = itertools.count()

    def pose(self):
        step = next(self.reads)
        if step not in self.span:
            return None
        moved = 0.005 * (step - self.span.start)
        return np.array([3.0, -2.0 + moved, 1.0, 0.3, 0.0, moved, 0.5])


def test_a_person_takes_the_arm_over_by_a_clutch_and_the_policy_goes_on_from_there(robot):
    start, records = pose_of(robot.state()[1]), []
    report = run_episode(
        robot,
        [],
        Lowering(robot, start[2] - 0.1),
        duration_s=4.0,
        recorder=records.append,
        operator=Clutch(Sideways(6, 20), FeatureSpace(robot.spec.action)),
    )
    targets = np.array([record.action for record in records], np.float64)
    assert np.linalg.norm(np.diff(targets[:, :3], axis=0), axis=1).max() < 0.03
    assert report.human == 14
    human = np.array([record.action for record in records if record.status == "human"])
    np.testing.assert_allclose(human[:, 1] - human[0, 1], 0.005 * np.arange(14), atol=1e-6)
    end = pose_of(robot.state()[1])
    np.testing.assert_allclose(end[:3], start[:3] + np.array([0.0, 0.065, -0.1]), atol=0.015)
    (event,) = report.events
    assert len(event.data["human"]) == len(event.data["policy"]) == 14
    assert not robot.safety_events() or all(
        safety.data["limit"] not in ("step", "stop") for safety in robot.safety_events()
    )


def test_the_arm_parks_from_its_last_commanded_target_and_respects_a_stop(robot):
    start = pose_of(robot.state()[1])
    report = run_episode(robot, [], Lowering(robot, start[2] - 0.05), duration_s=1.0)
    park(robot, report.last_target, start, speed_m=0.2)
    until = time.monotonic() + 10.0
    while (off := np.abs(pose_of(robot.state()[1])[:3] - start[:3]).max()) > 0.005:
        assert time.monotonic() < until, f"it is {off} m off"  # the arm follows what it was sent
        time.sleep(0.01)
    robot.stop("the red button")
    with pytest.raises(DeviceError, match="red button"):
        park(robot, start, report.last_target)


def test_the_state_at_a_time_lies_between_the_records_around_it(robot):
    _, state = robot.state()
    robot.command(pose_of(state) + np.array([0, 0, -0.1, 0, 0, 0, 0]), robot.state()[0] + seconds_to_ns(0.6))
    number = robot.ring.latest
    for _ in range(20):
        number = robot.ring.wait_newer(number, 1.0).number
    first, second = (robot.ring.read(number - back) for back in (6, 5))
    middle_ns = (first.time_ns + second.time_ns) // 2
    at_ns, state = robot.state_at(middle_ns)
    assert at_ns == middle_ns
    mean = (first.data["robot0_joint_pos"] + second.data["robot0_joint_pos"]) / 2
    assert not np.array_equal(first.data["robot0_joint_pos"], second.data["robot0_joint_pos"])
    np.testing.assert_allclose(state["robot0_joint_pos"], mean, atol=1e-6)


class LatentPolicy(Lowering):
    """A slow policy at the fast decoder's rate: its latents are the pose to stay about, and 0.4 s apart."""

    action_steps, dt = 20, 0.02

    def infer(self, observation, *, seeds=None):
        start = pose_of({key: observation[key][0, -1] for key in POSE_KEYS})
        return np.tile(start, (1, 60, 1))


class Around:
    """A pose from the latent, and a small way about it from a recurrent net that reads the joints."""

    def __init__(self, net):
        self.net = net

    def reset(self):
        self.net.reset()

    def step(self, latent, sample):
        way = 0.01 * np.tanh(self.net.step(latent, sample))
        return latent + np.concatenate([way, np.zeros(4)])


def test_a_recurrent_decoder_drives_the_arm_at_the_fast_rate_with_its_joints_as_the_sensor(robot):
    draw = np.random.default_rng(0).normal
    net = GruDecoder(
        {
            "weight_ih": draw(size=(48, 13)),
            "weight_hh": draw(size=(48, 16)) / 4,
            "bias_ih": draw(size=48),
            "bias_hh": draw(size=48),
            "weight_out": draw(size=(3, 16)) / 4,
            "bias_out": draw(size=3) / 4,
        }
    )
    records, start = [], pose_of(robot.state()[1])
    report = run_episode(
        robot,
        [],
        LatentPolicy(robot, 0.0),
        duration_s=2.0,
        recorder=records.append,
        runtime=RuntimeConfig(max_speed_m=0.5),
        slow_fast=SlowFast(Around(net), StateSensor(robot, ["robot0_joint_pos"])),
    )
    assert report.actions >= 0.8 * report.steps > 40
    targets = np.array([record.action for record in records if record.status == "fresh"], np.float64)
    steps = np.linalg.norm(np.diff(targets[:, :3], axis=0), axis=1)
    assert steps.max() <= 0.5 * 0.02 + 1e-6
    assert (steps > 0).mean() > 0.5  # at the fast rate, not once a latent chunk
    assert np.linalg.norm(targets[-1, :3] - start[:3]) < 0.1
