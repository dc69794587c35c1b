"""What is looked at before a policy may move a robot: the simulated one, and what may be wrong with it."""

from __future__ import annotations

import time

import numpy as np
import pytest

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.runtime.certificate import CERTIFICATE, POLICY_FILES
from robopolicy_drivers.runtime.preflight import Candidate, preflight
from robopolicy_drivers.safety.configs import SafetyConfig
from robopolicy_sim.configs import SimulatedRobotConfig
from robopolicy_sim.robot import make_robot
from robopolicy_sim.tasks.manipulation import manipulation_spec

pytestmark = pytest.mark.realtime

NAMES = ["fit", "certificate", "state", "camera 0", "commands", "stop", "limits", "policy"]


class Policy:
    """Holds still."""

    observation_steps, action_steps, dt = 2, 8, 0.1
    spec = manipulation_spec(64)

    def __init__(self, seconds=0.0, value=0.0, rows=16):
        self.seconds, self.value, self.rows = seconds, value, rows

    def reset(self):
        pass

    def infer(self, observation, *, seeds=None):
        assert {len(value) for value in observation.values()} == {1}
        time.sleep(self.seconds)
        return np.full((1, self.rows, 7), self.value)


class StillCamera:
    def __init__(self, key, image, stands=False):
        self.spec = Spec((Feature(key, image.shape, "uint8", kind="rgb"),), ())
        self.key, self.image, self.first_ns, self.stands = key, image, now_ns(), stands

    def read(self):
        return self.first_ns if self.stands else now_ns(), {self.key: self.image}


@pytest.fixture(scope="module")
def robot():
    with make_robot(SimulatedRobotConfig()) as robot:
        for camera in robot.cameras:
            camera.connect()
        yield robot


def found(robot, policy=None, cameras=()) -> dict[str, tuple[bool, str]]:
    candidate = Candidate(policy or Policy(), "the test")
    findings = list(preflight(robot, [*robot.cameras, *cameras], [candidate]))
    return {finding.name: (finding.passed, finding.text) for finding in findings}


def test_a_robot_in_order_passes_and_does_not_move(robot):
    before = robot.state()[1]["robot0_joint_pos"]
    findings = found(robot)
    assert list(findings) == NAMES
    assert all(passed for passed, _ in findings.values()), findings
    assert "enforced: position" in findings["limits"][1]
    assert "on a server" in findings["certificate"][1]
    np.testing.assert_allclose(robot.state()[1]["robot0_joint_pos"], before, atol=1e-3)
    assert not robot.ring.newest().data["stopped"]


def test_a_stop_that_somebody_has_latched_is_left_as_it_is(robot):
    robot.stop("a hand was in the way")
    findings = found(robot)
    assert list(findings) == ["fit", "certificate", "state", "camera 0", "commands"]
    passed, text = findings["commands"]
    assert not passed
    assert "a hand was in the way" in text
    with pytest.raises(DeviceError, match="a hand was in the way"):
        robot.command(np.zeros(7), now_ns())
    robot.release()


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        (Policy(seconds=0.21, rows=2), "all of it would come too late"),
        (Policy(value=np.nan), "not finite"),
    ],
)
def test_a_policy_that_cannot_work_is_refused(robot, policy, told):
    passed, text = found(robot, policy)["policy"]
    assert not passed
    assert told in text


def test_a_slow_policy_is_told(robot):
    passed, text = found(robot, Policy(seconds=0.25, rows=10))["policy"]
    assert passed
    assert "1 steps before each chunk hold" in text


def test_cameras_that_see_nothing_or_stand_still_are_refused(robot):
    black = StillCamera("camera8_rgb", np.zeros((8, 8, 3), np.uint8))
    frozen = StillCamera("camera9_rgb", np.arange(192, dtype=np.uint8).reshape(8, 8, 3), stands=True)
    findings = found(robot, cameras=[black, frozen])
    assert findings["camera 0"][0]
    assert not findings["camera 1"][0]
    assert "camera8_rgb has one colour only" in findings["camera 1"][1]
    assert not findings["camera 2"][0]
    assert "No newer image has come" in findings["camera 2"][1]


def test_a_robot_without_the_features_is_told(robot):
    policy = Policy()
    policy.spec = Spec((Feature("robot0_wrench", (6,)),), policy.spec.action)
    findings = found(robot, policy)
    assert list(findings) == ["fit"]
    assert not findings["fit"][0]
    assert "robot0_wrench" in findings["fit"][1]


def test_a_certificate_of_other_weights_is_refused(robot, tmp_path):
    for name in POLICY_FILES:
        (tmp_path / name).write_text(name)
    (tmp_path / CERTIFICATE).write_text('{"sha256": {}}')
    findings = preflight(robot, robot.cameras, [Candidate(Policy(), "the test", tmp_path)])
    (finding,) = [finding for finding in findings if not finding.passed]
    assert finding.name == "certificate"
    assert "Certify it again" in finding.text


def test_limits_that_are_not_enforced_are_told():
    config = SimulatedRobotConfig(safety=SafetyConfig(workspace="off", step="warn"))
    with make_robot(config) as robot:
        robot.cameras[0].connect()
        assert found(robot)["limits"] == (True, "NOT enforced: workspace=off, step=warn")
