"""States at an image's time: interpolation between records, on a real ring, and the latencies of devices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_targets import IMAGE, StillCamera
from scipy.spatial.transform import Rotation

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import ConfigError, DeviceError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.realtime.ring import Ring
from robopolicy_drivers.runtime.alignment import state_at
from robopolicy_drivers.runtime.observer import Observer

FEATURES = (
    Feature("robot0_eef_pos", (3,), "float32", kind="position", unit="m"),
    Feature("robot0_eef_rot_axis_angle", (3,), "float64", kind="axis_angle", unit="rad"),
    Feature("heading", (1,), "float64", kind="angle", unit="rad"),
    Feature("width", (), "float32"),
    Feature("count", (1,), "int64"),
)
MS = 1_000_000


def turning(time_ns):
    """A state that moves and turns evenly: one turn in 100 ms, which passes the half turn."""
    share = time_ns / (100 * MS)
    turn = Rotation.from_rotvec([0, 0, 2 * np.pi * share])
    return {
        "robot0_eef_pos": np.array([share, -share, 2.0]),
        "robot0_eef_rot_axis_angle": turn.as_rotvec(),
        "heading": np.array([np.angle(np.exp(2j * np.pi * share))]),
        "width": np.array(3 * share),
        "count": np.array([round(share * 10)]),
    }


@pytest.fixture(scope="module")
def ring():
    ring = Ring(FEATURES, slots=32)
    for index in range(11):
        ring.write(10 * MS * index, turning(10 * MS * index))
    return ring


@given(st.integers(0, 100 * MS))
def test_an_even_motion_is_recovered_at_any_time(ring, time_ns):
    at_ns, state = state_at(ring, FEATURES, time_ns)
    expected = turning(time_ns)
    assert at_ns == time_ns
    for key in ("robot0_eef_pos", "width"):
        np.testing.assert_allclose(state[key], expected[key], atol=1e-6)
    turn = Rotation.from_rotvec(state["robot0_eef_rot_axis_angle"]).inv()
    assert (turn * Rotation.from_rotvec(expected["robot0_eef_rot_axis_angle"])).magnitude() < 1e-6
    assert abs(np.exp(1j * state["heading"]) - np.exp(1j * expected["heading"])) < 1e-6
    assert state["count"] in (time_ns // (10 * MS), -(-time_ns // (10 * MS)))
    assert all(state[feature.key].dtype == feature.dtype for feature in FEATURES)
    assert all(state[feature.key].shape == feature.shape for feature in FEATURES)


def test_nothing_is_extrapolated(ring):
    for time_ns, expected in ((-5 * MS, 0), (103 * MS, 100 * MS)):
        at_ns, state = state_at(ring, FEATURES[:1], time_ns)
        assert at_ns == expected
        np.testing.assert_allclose(state["robot0_eef_pos"], turning(expected)["robot0_eef_pos"])
        assert list(state) == ["robot0_eef_pos"]
    with pytest.raises(DeviceError, match="no state yet"):
        state_at(Ring(FEATURES, slots=4), FEATURES, 0)


class Recalling:
    """A robot whose values are the times of their stamps [ns]: what was taken when can be read off."""

    spec = Spec((FEATURES[0], FEATURES[3]), (Feature("action", (1,)),))

    def state(self):
        return self.state_at(now_ns())

    def state_at(self, time_ns):
        return time_ns, {"robot0_eef_pos": np.full(3, time_ns), "width": np.array(time_ns)}


def test_latencies_of_devices_are_subtracted_from_their_stamps():
    robot, camera = Recalling(), StillCamera(age_s=0.05)
    spec = Spec((IMAGE, *robot.spec.observation), ())
    latencies_s = {"camera0_rgb": 0.1, "robot0_eef_pos": 0.02, "width": 0.06}
    time_ns, observation = Observer(robot, [camera], spec, 1, latencies_s).observe()
    assert observation["robot0_eef_pos"][0] == time_ns + 20 * MS  # so stamped was what was true at time_ns
    assert observation["width"] == time_ns + 60 * MS
    before_ns, _ = Observer(robot, [camera], spec, 1).observe()
    assert before_ns - time_ns >= 100 * MS
    alone_ns, alone = Observer(robot, [], robot.spec, 1, {"width": 0.06}).observe()
    assert alone["width"] == alone_ns + 60 * MS  # one state has one time: the one of its slowest part


def test_latencies_that_fit_nothing_are_refused():
    robot = Recalling()
    with pytest.raises(ConfigError, match=r"'widht'.*Allowed: width"):
        Observer(robot, [], robot.spec, 1, {"widht": 0.1})
    with pytest.raises(ConfigError, match="0 s or more"):
        Observer(robot, [], robot.spec, 1, {"width": -0.1})


def test_an_observation_becomes_too_old_by_its_latency():
    robot = Recalling()
    with pytest.raises(DeviceError, match="observation is"):
        Observer(robot, [StillCamera(0.2)], robot.spec, 1, {"camera0_rgb": 0.4}).observe()
    now = now_ns()
    assert Observer(robot, [StillCamera(0.2)], robot.spec, 1).observe()[0] < now - seconds_to_ns(0.1)
