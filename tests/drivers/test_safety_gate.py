"""The safety gate: whatever the controller wants, what is sent keeps the limits, and a stop is a stop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robopolicy_datasets.errors import ConfigError, DeviceError
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_drivers.safety.checks import ForceLimit, TiltLimit, Workspace
from robopolicy_drivers.safety.configs import Mode, SafetyConfig
from robopolicy_drivers.safety.gate import SafetyGate, stopping_speed
from robopolicy_drivers.safety.limits import MotionLimits

PERIOD_S = 0.008
TICK_NS = 8_000_000


def make_limits(size=2, jerk=np.inf):
    ones = np.ones(size)
    return MotionLimits(-1.0 * ones, 1.0 * ones, 1.5 * ones, 6.0 * ones, jerk * ones)


def make_gate(jerk=np.inf, config=None, checks=(), size=2):
    return SafetyGate(
        np.zeros(size), make_limits(size, jerk), period_s=PERIOD_S, config=config, checks=checks
    )


def play(gate, wanted, first_tick=0):
    """Returns the set points ``[T, A]`` sent for the wanted ones, from the one before on."""
    sent = [gate.sent.copy()]
    for tick, target in enumerate(wanted, start=first_tick):
        sent.append(gate.filter(target, tick * TICK_NS))
    return np.array(sent)


def assert_within(sent, limits):
    """Position, velocity and acceleration of a sequence that began at rest; returns the largest jerk."""
    rest = np.repeat(sent[:1], 3, axis=0)
    velocity = np.diff(np.concatenate([rest, sent]), axis=0) / PERIOD_S
    acceleration = np.diff(velocity, axis=0) / PERIOD_S
    assert (sent >= limits.lower - 1e-9).all()
    assert (sent <= limits.upper + 1e-9).all()
    assert (np.abs(velocity) <= limits.velocity + 1e-9).all()
    assert (np.abs(acceleration) <= limits.acceleration + 1e-6).all()
    return np.abs(np.diff(acceleration, axis=0) / PERIOD_S).max()


@pytest.mark.parametrize("start", [[np.nan, 0.0], [np.inf, 0.0], [0.0]])
def test_a_start_that_is_no_place_is_refused(start):
    with pytest.raises(ConfigError, match="finite numbers"):
        SafetyGate(start, make_limits(), period_s=PERIOD_S)


wishes = arrays(
    np.float64,
    st.tuples(st.integers(1, 12), st.just(2)),
    elements=st.floats(-3, 3, allow_subnormal=False),
)


@given(wishes, st.lists(st.integers(1, 60), min_size=12, max_size=12), st.sampled_from([np.inf, 400.0, 60.0]))
def test_whatever_is_wanted_all_limits_are_kept(targets, durations, jerk):
    gate = make_gate(jerk)
    wanted = np.repeat(targets, durations[: len(targets)], axis=0)
    assert_within(play(gate, wanted), make_limits())


@given(wishes, st.sampled_from([np.inf, 400.0, 60.0]))
def test_it_arrives_at_what_is_wanted_and_stays(targets, jerk):
    """From rest: then the jerk limit holds too. With it the set point may swing a little."""
    gate, goal = make_gate(jerk), targets[0]
    sent = play(gate, np.repeat(goal[None], 1000, axis=0))
    np.testing.assert_allclose(sent[-1], np.clip(goal, -1, 1), atol=5e-3)
    assert assert_within(sent, make_limits()) <= jerk * (1 + 1e-6)
    swing = 1e-9 if jerk == np.inf else 0.05
    assert (sent >= np.minimum(0, goal) - swing).all()
    assert (sent <= np.maximum(0, goal) + swing).all()


def test_a_motion_within_the_limits_passes_unchanged():
    gate = make_gate()
    times = np.arange(400)[:, None] * PERIOD_S
    wanted = 0.4 * (1 - np.cos(2 * times)) * [1.0, -0.5]
    np.testing.assert_allclose(play(gate, wanted)[1:], wanted, atol=1e-12)
    assert gate.log.events() == []


@given(wishes, st.integers(1, 200))
def test_a_stop_brakes_within_the_limits_and_latches(targets, moved):
    gate = make_gate()
    before = play(gate, np.repeat(targets, 30, axis=0)[:moved])
    gate.stop("the button was pressed", moved * TICK_NS)
    gate.stop("another reason", moved * TICK_NS)
    after = play(gate, np.repeat(targets[:1] + 1.0, 100, axis=0), moved)
    assert_within(np.concatenate([before, after[1:]]), make_limits())
    longest = int(np.ceil(1.5 / 6.0 / PERIOD_S)) + 1
    assert (after[longest + 1 :] == after[-1]).all()
    with pytest.raises(DeviceError, match=r"stopped: the button was pressed\. Nothing is commanded"):
        gate.commanded(0)
    gate.release()
    gate.commanded(0)
    assert (gate.filter(gate.sent, 0) == after[-1]).all()
    (event,) = [event for event in gate.log.events() if event.limit == "stop"]
    assert event.to_event().text == "the button was pressed"


@given(arrays(np.float64, 3, elements=st.floats(0, 10)), st.floats(0.1, 100))
def test_stopping_speed_is_the_largest_from_which_one_can_stop(distance, deceleration):
    speed = stopping_speed(distance, np.full(3, deceleration), PERIOD_S)
    for start, room in zip(speed, distance, strict=True):
        for factor, fits in ((1.0, True), (1.01, False)):
            at, travelled = factor * start, 0.0
            while at > 0:
                travelled += at * PERIOD_S
                at -= deceleration * PERIOD_S
            if room > 1e-6:
                assert (travelled <= room * (1 + 1e-6)) == fits


# --- modes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["position", "velocity", "acceleration", "jerk"])
@pytest.mark.parametrize("mode", Mode)
def test_each_limit_has_each_mode(limit, mode):
    others = {name: Mode.OFF for name in ("position", "velocity", "acceleration", "jerk") if name != limit}
    gate = make_gate(60.0, SafetyConfig(**others, **{limit: mode}))
    sent = play(gate, [[3.0, 0.0]] * 50)
    followed = (sent[1] == [3.0, 0.0]).all()
    assert followed == (mode in (Mode.OFF, Mode.WARN))
    assert bool(gate.stopped) == (mode is Mode.STOP)
    noted = {event.limit: event for event in gate.log.events() if event.limit != "stop"}
    assert set(noted) == (set() if mode is Mode.OFF else {limit})
    if mode is not Mode.OFF:
        assert noted[limit].mode == mode
        assert f"the {limit} of coordinate 0 is to be" in noted[limit].text


def test_what_happens_again_soon_is_one_event():
    gate = make_gate(config=SafetyConfig(velocity=Mode.WARN, acceleration=Mode.OFF, position=Mode.OFF))
    for tick in range(100):
        gate.filter([0.5 * (tick % 2), 0.0], tick * TICK_NS)
    for tick in range(300, 310):
        gate.filter([0.5 * (tick % 2), 0.0], tick * TICK_NS)
    first, second = gate.log.events()
    assert (first.count, second.count) == (99, 10)
    assert second.start_ns == 300 * TICK_NS


# --- the watchdogs ------------------------------------------------------------------------------------------


def test_without_commands_it_brakes_holds_and_goes_on_with_the_next():
    gate = make_gate(config=SafetyConfig(stale_command_s=0.1))
    wanted = np.linspace(0, 1, 200)[:, None] * [1.0, 0.0]  # a plan that goes on for longer
    gate.commanded(0)
    sent = play(gate, wanted)
    assert_within(sent, make_limits())
    held = int(0.1 / PERIOD_S) + 16
    assert (sent[held:] == sent[held]).all()
    assert not gate.stopped
    (event,) = [event for event in gate.log.events() if event.limit == "stale_command"]
    assert "(allowed: 0.1 s); the robot brakes and holds" in event.text
    assert event.start_ns == 13 * TICK_NS  # the first tick after 0.1 s
    gate.commanded(200 * TICK_NS)
    again = play(gate, [[1.0, 0.0]] * 12, 200)
    assert again[-1, 0] > again[0, 0]


def test_a_robot_that_rests_is_not_stale():
    gate = make_gate(config=SafetyConfig(stale_command_s=0.1))
    gate.commanded(0)
    play(gate, [[0.0, 0.0]] * 100)
    assert not gate.holding
    assert gate.log.events() == []


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"state_ns": -300_000_000}, r"the newest state is 0\.3\d* s old \(allowed: 0.2 s\)"),
        ({"position": np.array([np.nan, 0.0])}, "not finite"),
        ({"measured": {"robot0_wrench": np.full(6, np.inf)}}, r"not finite \(robot0_wrench\)"),
    ],
)
def test_a_state_that_cannot_be_trusted_stops(settings, reason):
    gate = make_gate()
    play(gate, [[0.01, 0.0]] * 3)
    gate.filter([0.02, 0.0], 3 * TICK_NS, **settings)
    with pytest.raises(DeviceError, match=reason):
        gate.commanded(4 * TICK_NS)


@pytest.mark.parametrize("bad", [[np.nan, 0.0], [np.inf, 0.0], [0.0]])
def test_a_set_point_that_is_not_possible_stops(bad):
    gate = make_gate()
    sent = gate.filter(bad, 0)
    assert (sent == 0).all()
    assert "which is not possible" in gate.stopped


def test_a_frozen_position_stops_only_while_moving():
    gate = make_gate()
    frozen = np.array([0.0, 0.0])
    for tick in range(100):
        gate.filter([0.0, 0.0], tick * TICK_NS, position=frozen)
    assert not gate.stopped
    for tick in range(100, 200):
        gate.filter([0.004 * (tick - 100), 0.0], tick * TICK_NS, position=frozen)
    assert "has not changed for 0.2" in gate.stopped
    moving = make_gate()
    for tick in range(100):
        moving.filter([0.004 * tick, 0.0], tick * TICK_NS, position=moving.sent)
    assert not moving.stopped


# --- further checks -----------------------------------------------------------------------------------------


@pytest.fixture
def arm():
    """A gate for an arm whose tool stays in a box around where it is."""
    embodiment = load_embodiment("ur5e")
    kinematics = Kinematics(embodiment)

    def tool(joints):
        return kinematics.forward(joints)[:3, 3]

    home = tool(embodiment.home_positions)

    def make(mode):
        box = Workspace(home - 0.1, home + 0.1, tool)
        return SafetyGate(
            embodiment.home_positions,
            MotionLimits.of_joints(embodiment),
            period_s=PERIOD_S,
            config=SafetyConfig(workspace=mode),
            checks=[box],
        )

    return make, tool, home


@pytest.mark.parametrize("mode", [Mode.CLIP, Mode.STOP])
@pytest.mark.parametrize("joint", range(3))
@pytest.mark.parametrize("way", [-1.0, 1.0])
def test_the_tool_stays_in_its_box_and_can_come_back(arm, mode, joint, way):
    make, tool, home = arm
    gate = make(mode)
    away = gate.sent.copy()
    away[joint] += way
    back = gate.sent.copy()
    points = np.array([tool(joints) for joints in play(gate, [away] * 200)])
    assert (np.abs(points - home) <= 0.1 + 1e-6).all()
    assert np.abs(points[-1] - home).max() > 0.05  # it went as far as it may
    assert bool(gate.stopped) == (mode is Mode.STOP)
    events = [event for event in gate.log.events() if event.limit == "workspace"]
    assert len(events) == 1 if mode is Mode.STOP else events  # clipped, it brakes, tries again, ...
    assert "the tool stays between" in events[0].text
    if mode is Mode.CLIP:
        np.testing.assert_allclose(play(gate, [back] * 300, 200)[-1], back, atol=1e-6)


def test_outside_its_box_the_tool_may_only_come_nearer():
    gate = make_gate(checks=[Workspace([0.3, -9, -9], [0.6, 9, 9], lambda q: np.array([q[0], 0.0, 0.0]))])
    assert play(gate, [[-0.5, 0.0]] * 100)[-1, 0] == pytest.approx(0.0, abs=1e-6)
    assert play(gate, [[0.4, 0.0]] * 200, 100)[-1, 0] == pytest.approx(0.4, abs=1e-6)


@pytest.mark.parametrize(
    ("mode", "stops", "moves"), [("stop", True, False), ("clip", False, False), ("warn", False, True)]
)
def test_a_force_above_the_limit(mode, stops, moves):
    gate = make_gate(config=SafetyConfig(force=mode), checks=[ForceLimit(20.0)])
    for tick in range(10):
        gate.filter([0.001 * tick, 0.0], tick * TICK_NS, measured={"robot0_wrench": np.zeros(6)})
    pushing = {"robot0_wrench": np.array([0.0, 15.0, -15.0, 0, 0, 0])}
    for tick in range(10, 60):
        last = gate.filter([0.001 * tick, 0.0], tick * TICK_NS, measured=pushing)
    assert bool(gate.stopped) == stops
    assert (gate.velocity[0] > 0) == moves
    (event,) = [event for event in gate.log.events() if event.limit == "force"]
    assert "limited to 20 N" in event.text
    if mode == "clip":  # it goes on when the force is gone
        for tick in range(60, 120):
            sent = gate.filter([0.001 * tick, 0.0], tick * TICK_NS, measured={"robot0_wrench": np.zeros(6)})
        assert sent[0] > last[0]


@given(st.floats(-3, 3), st.floats(0, 1.2), st.floats(-3.1, 3.1))
def test_tilt_is_the_angle_to_the_vertical(yaw, tilt, direction):
    from scipy.spatial.transform import Rotation

    tipped = Rotation.from_rotvec(tilt * np.array([np.cos(direction), np.sin(direction), 0.0]))
    rotation = (tipped * Rotation.from_rotvec([0, 0, yaw])).as_rotvec()
    check = TiltLimit(0.5)
    found = check.excess(np.zeros(2), {"robot0_base_rot_axis_angle": rotation})
    assert found == pytest.approx(tilt - 0.5, abs=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SafetyConfig(force="maybe"), "mode of 'force' is 'maybe'. Allowed: off, warn, clip, stop"),
        (lambda: SafetyConfig(stale_state_s=0.0), "stale_state_s is 0"),
        (lambda: MotionLimits([1.0], [0.0], [1.0], [1.0], [1.0]), "lie above the upper"),
        (lambda: MotionLimits([0.0], [1.0], [0.0], [1.0], [1.0]), "must be above 0"),
        (lambda: MotionLimits([0.0], [1.0], [1.0, 1.0], [1.0], [1.0]), "'velocity' is"),
        (lambda: SafetyGate([0.0], make_limits(), period_s=0.01), "A gate for 2 coordinates"),
        (lambda: Workspace([0, 0, 1], [1, 1, 1], lambda q: q), "no box"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
