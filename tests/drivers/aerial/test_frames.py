"""The conversions between MAVLink's frames and ours are exact, and their own inverses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robopolicy_datasets.geometry import axis_angle_to_matrix
from robopolicy_drivers.aerial.autopilots import AUTOPILOTS, autopilot_numbered
from robopolicy_drivers.aerial.frames import (
    heading_of,
    level,
    swap_body,
    swap_heading,
    swap_rotation,
    swap_world,
)

numbers = st.floats(-1e6, 1e6)
vectors = st.tuples(numbers, numbers, numbers).map(np.array)
rotations = (
    st.tuples(*[st.floats(-3.0, 3.0)] * 3).map(np.array).map(lambda vector: axis_angle_to_matrix(vector))
)
angles = st.floats(-np.pi, np.pi)


@given(vectors, rotations)
def test_each_conversion_is_its_own_inverse_bit_for_bit(vector, rotation):
    for swap in (swap_world, swap_body):
        np.testing.assert_array_equal(swap(swap(vector)), vector)
    np.testing.assert_array_equal(swap_rotation(swap_rotation(rotation)), rotation)


@given(vectors, rotations)
def test_a_vector_fixed_to_the_body_is_the_same_arrow_in_both_conventions(arrow, rotation):
    in_ned = swap_rotation(rotation) @ swap_body(arrow)
    np.testing.assert_allclose(swap_world(in_ned), rotation @ arrow, atol=1e-6)


@given(rotations)
def test_rotations_stay_rotations(rotation):
    assert np.linalg.det(swap_rotation(rotation)) == pytest.approx(1.0)


def test_the_axes_have_their_names():
    north, east, down = np.eye(3)
    np.testing.assert_array_equal(swap_world(north), [0, 1, 0])
    np.testing.assert_array_equal(swap_world(east), [1, 0, 0])
    np.testing.assert_array_equal(swap_world(down), [0, 0, -1])
    np.testing.assert_allclose(swap_rotation(np.eye(3)), level(np.pi / 2), atol=1e-15)  # heading north


@given(angles)
def test_headings_agree_with_rotations(heading):
    assert np.isclose(np.cos(heading_of(level(heading)) - heading), 1.0)
    yaw = swap_heading(heading)
    rotation = swap_rotation(level(heading))  # its own x axis, seen from north and east
    assert np.isclose(np.cos(np.arctan2(rotation[1, 0], rotation[0, 0]) - yaw), 1.0)
    assert np.isclose(np.cos(swap_heading(yaw) - heading), 1.0)


def test_modes_are_those_of_pymavlinks_tables():
    from pymavlink import mavutil

    copter = mavutil.mode_mapping_byname(mavutil.mavlink.MAV_TYPE_QUADROTOR)
    ardupilot = AUTOPILOTS["ardupilot"]
    assert ardupilot.guided.main == ardupilot.guided.custom_mode == copter["GUIDED"]
    assert ardupilot.hold.main == ardupilot.hold.custom_mode == copter["BRAKE"]
    assert ardupilot.own == {copter[name] for name in ("GUIDED", "BRAKE", "RTL", "LAND")}
    for name in ("px4", "generic"):
        autopilot = AUTOPILOTS[name]
        for mode, known in ((autopilot.guided, "OFFBOARD"), (autopilot.hold, "LOITER")):
            assert (mode.main, mode.sub) == mavutil.px4_map[known][1:]
            assert mavutil.interpret_px4_mode(0, mode.custom_mode) == known
        names = {mavutil.interpret_px4_mode(0, mode) for mode in autopilot.own}
        assert names == {"OFFBOARD", "LOITER", "TAKEOFF", "RTL", "LAND"}


def test_autopilots_are_found_by_what_their_heartbeat_says():
    from pymavlink.dialects.v20 import common

    assert autopilot_numbered(common.MAV_AUTOPILOT_PX4) == "px4"
    assert autopilot_numbered(common.MAV_AUTOPILOT_ARDUPILOTMEGA) == "ardupilot"
    assert autopilot_numbered(common.MAV_AUTOPILOT_GENERIC) == "generic"
    assert autopilot_numbered(common.MAV_AUTOPILOT_SMACCMPILOT) == "generic"
