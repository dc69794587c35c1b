"""The way home by joints: up first, slow, from postures that no straight way of the tool leads out of."""

import numpy as np
import pytest

from robopolicy_datasets.clock import seconds_to_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.control.homing import LOWER_M, SPEED_M, SPEED_RAD, Homing, way_home
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_drivers.safety.checks import Workspace
from robopolicy_drivers.safety.gate import SafetyGate
from robopolicy_drivers.safety.limits import MotionLimits

PERIOD_S = 0.005
UP = np.array([0.0, 0.0, 1.0])
STARTS = {
    "low, the tool down": ("ur5e", [2.54, -1.05, 1.65, -2.17, -1.57, -2.17]),
    "stretched out": ("ur5e", [2.36, -0.3, 0.0, -0.6, -1.57, 0.0]),
    "the wrist singular": ("ur5e", [3.16, -1.0, 1.8, -0.8, 0.0, 0.0]),
    "at a limit of the wrist": ("ur5e", [3.06, -1.2, 1.9, -2.2, -1.57, 6.28]),
    "at a limit of the elbow": ("fr3", [0.2, -0.5, 0.0, -3.04, 0.0, 2.6, 0.8]),
    "the elbow to the side": ("fr3", [1.2, 0.9, -1.3, -2.0, 1.0, 1.9, 0.5]),
    "at three limits": ("fr3", [-0.6, 1.2, 0.4, -0.16, 0.0, 4.5, 3.0]),
}


@pytest.fixture(params=list(STARTS.values()), ids=list(STARTS))
def start(request):
    name, joints = request.param
    kinematics = Kinematics(load_embodiment(name))
    return kinematics, np.array(joints)


def heights(kinematics, joints, up=UP):
    return kinematics.forward(joints)[..., :3, 3] @ up


def anywhere(set_points):
    return True


def gate_at(kinematics, joints, **settings):
    limits = MotionLimits.of_joints(kinematics.embodiment)
    return SafetyGate(joints, limits, period_s=PERIOD_S, **settings)


def test_it_ends_at_home_and_is_slow_all_the_way(start):
    kinematics, joints = start
    way = np.vstack([joints, way_home(kinematics, joints, UP, PERIOD_S, anywhere)])
    np.testing.assert_allclose(way[-1], kinematics.embodiment.home_positions, atol=1e-12)
    lower, upper = kinematics.embodiment.position_limits.T
    assert ((way >= lower - 1e-9) & (way <= upper + 1e-9)).all()
    speeds = np.abs(np.diff(way, axis=0)) / PERIOD_S
    assert speeds.max() <= SPEED_RAD * (1 + 1e-9)
    ways = np.linalg.norm(np.diff(kinematics.forward(way)[:, :3, 3], axis=0), axis=1)
    assert ways.max() <= 1.1 * SPEED_M * PERIOD_S
    changes = np.abs(np.diff(speeds, axis=0, prepend=0.0, append=0.0)) / PERIOD_S
    assert (changes < kinematics.embodiment.acceleration_limits).all()


def test_a_low_tool_rises_and_sinks_no_lower_than_home():
    name, joints = STARTS["low, the tool down"]
    kinematics = Kinematics(load_embodiment(name))
    way = kinematics.forward(way_home(kinematics, np.array(joints), UP, PERIOD_S, anywhere))
    first, home = kinematics.forward(np.array(joints)), kinematics.embodiment.home_positions
    lowest = heights(kinematics, home) - LOWER_M
    assert first[2, 3] < lowest - 0.1
    low = way[way[:, 2, 3] < lowest - 1e-3]
    assert len(low) > 100
    rises, leans = low[:, 2, 3] - first[2, 3], np.linalg.norm(low[:, :2, 3] - first[:2, 3], axis=1)
    assert (leans < 0.11 * rises + 1e-4).all()
    assert np.abs(low[:, :3, :3] - first[:3, :3]).max() < 5e-3
    assert (np.diff(low[:, 2, 3]) > 0).all()


def test_up_is_where_the_base_says():
    kinematics = Kinematics(load_embodiment("ur5e"))
    joints = np.array(STARTS["low, the tool down"][1])
    hanging = way_home(kinematics, joints, -UP, PERIOD_S, anywhere)  # there the tool is high already
    assert heights(kinematics, hanging).min() < heights(kinematics, joints) + 1e-3
    assert len(hanging) < len(way_home(kinematics, joints, UP, PERIOD_S, anywhere))


def test_from_home_it_stays():
    kinematics = Kinematics(load_embodiment("fr3"))
    home = kinematics.embodiment.home_positions
    way = way_home(kinematics, home, UP, PERIOD_S, anywhere)
    np.testing.assert_array_equal(way, np.broadcast_to(home, way.shape))


def test_it_passes_the_gate_as_it_is(start):
    kinematics, joints = start
    gate = gate_at(kinematics, joints)
    homing = Homing(gate, way_home(kinematics, joints, UP, PERIOD_S, gate.allows), PERIOD_S)
    arrived, now_ns = [], 0
    while not homing.arrived:
        gate.commanded(now_ns)
        arrived.append(homing.arrived)
        homing.tick(now_ns)
        now_ns += seconds_to_ns(PERIOD_S)
    assert len(arrived) > 100
    assert not gate.log.events()


def test_without_its_caller_it_brakes_and_goes_on_when_asked_again():
    kinematics = Kinematics(load_embodiment("ur5e"))
    joints = np.array(STARTS["low, the tool down"][1])
    gate = gate_at(kinematics, joints)
    homing = Homing(gate, way_home(kinematics, joints, UP, PERIOD_S, gate.allows), PERIOD_S)
    now_ns, calls_ns = 0, [0]
    gate.commanded(0)
    while now_ns < seconds_to_ns(2.0):
        homing.tick(now_ns)
        now_ns += seconds_to_ns(PERIOD_S)
    rest = gate.sent
    assert gate.silenced
    assert not gate.velocity.any()
    assert not homing.arrived
    while not homing.arrived:
        if now_ns - calls_ns[-1] > seconds_to_ns(0.2):
            gate.commanded(now_ns)
            homing.check()
            calls_ns.append(now_ns)
        before = homing.tick(now_ns)
        now_ns += seconds_to_ns(PERIOD_S)
        assert np.abs(gate.velocity).max() < 2 * SPEED_RAD
    assert len(calls_ns) > 5
    assert np.abs(before - rest).max() > 0.1
    assert {event.limit for event in gate.log.events()} <= {"stale_command", "acceleration", "velocity"}


@pytest.mark.parametrize("outward", [[1, 0, 0], [0, -1, 0], [0, 0, -1], [1, -1, -1]])
def test_a_tool_at_a_wall_of_its_box_comes_away_from_it(outward):
    kinematics = Kinematics(load_embodiment("ur5e"))
    joints = np.array(STARTS["low, the tool down"][1])
    place, wide = kinematics.forward(joints)[:3, 3], np.array([2.0, 2.0, 2.0])
    lower, upper = np.where(np.less(outward, 0), place, -wide), np.where(np.greater(outward, 0), place, wide)
    gate = gate_at(
        kinematics, joints, checks=[Workspace(lower, upper, lambda q: kinematics.forward(q)[:3, 3])]
    )
    homing = Homing(gate, way_home(kinematics, joints, UP, PERIOD_S, gate.allows), PERIOD_S)
    tick = 0
    while not homing.arrived:
        gate.commanded(seconds_to_ns(tick * PERIOD_S))
        homing.check()
        homing.tick(seconds_to_ns(tick * PERIOD_S))
        tick += 1


def test_a_line_home_that_would_leave_the_box_begins_nearer_to_home():
    kinematics = Kinematics(load_embodiment("fr3"))
    joints = np.array([-1.29, -1.09, 1.64, -1.76, -1.27, 1.96, 2.48])
    lower, upper = np.array([0.25, -0.4, -0.02]), np.array([0.75, 0.4, 0.6])
    box = Workspace(lower, upper, lambda q: kinematics.forward(q)[:3, 3])
    gate = gate_at(kinematics, joints, checks=[box])

    def excess(allows):
        places = kinematics.forward(way_home(kinematics, joints, UP, PERIOD_S, allows))[:, :3, 3]
        return max((lower - places).max(), (places - upper).max())

    assert gate.allows(joints[None])
    assert excess(anywhere) > 0.01
    assert excess(gate.allows) < 0.0


def test_a_way_that_leaves_the_box_is_blocked_and_says_so():
    kinematics = Kinematics(load_embodiment("ur5e"))
    joints = np.array(STARTS["low, the tool down"][1])
    roof = heights(kinematics, joints) + 0.1
    box = Workspace(np.full(3, -2.0), np.array([2.0, 2.0, roof]), lambda q: kinematics.forward(q)[:3, 3])
    gate = gate_at(kinematics, joints, checks=[box])
    homing = Homing(gate, way_home(kinematics, joints, UP, PERIOD_S, gate.allows), PERIOD_S)

    def go_on():
        for tick in range(2000):
            now_ns = seconds_to_ns(tick * PERIOD_S)
            gate.commanded(now_ns)
            homing.check()
            homing.tick(now_ns)
            assert heights(kinematics, gate.sent) <= roof + 1e-6

    with pytest.raises(DeviceError, match=r"blocked: the tool stays between .*more room"):
        go_on()
    assert heights(kinematics, gate.sent) > roof - 0.03
