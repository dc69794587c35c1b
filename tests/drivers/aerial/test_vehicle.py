"""The MAVLink driver flies a simulated vehicle whose autopilot is MAVSDK: take-off, following, landing."""

import time

import numpy as np
import pytest
from device_targets import wait_until
from flights import driver_address, flight, free_port, here, soon, stopped
from pty_pair import PtyPair

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import ConfigError, DeviceError, UnknownNameError
from robopolicy_drivers.aerial.configs import MavlinkConfig
from robopolicy_drivers.aerial.vehicle import MavlinkVehicle
from robopolicy_drivers.conformance import check_driver
from robopolicy_sim.autopilot.vehicle import SimulatedVehicle

pytestmark = pytest.mark.realtime


def test_a_hovering_vehicle_conforms(simulated):
    simulated.begin(1.0)
    passed = check_driver(lambda: MavlinkVehicle(MavlinkConfig(address=driver_address(simulated))))
    assert any("release() lets commands pass again" in line for line in passed)


def follow(vehicle, simulated, way, seconds):
    """Commands ``way(time)`` [3] half a second ahead; returns the distances from it [m]."""
    begun, distances = now_ns(), []
    while (elapsed := 1e-9 * (now_ns() - begun)) < seconds:
        ahead = elapsed + 0.5
        vehicle.command(np.array([*way(ahead), 0.0, 0.0, 0.3]), begun + seconds_to_ns(ahead))
        truth = simulated.truth()
        distances.append(np.linalg.norm(truth.data["position"] - way(1e-9 * (truth.time_ns - begun))))
        time.sleep(0.02)
    return np.array(distances)


def test_it_takes_off_follows_and_lands(simulated):
    with flight(simulated, 0.0) as vehicle:
        with pytest.raises(DeviceError, match=r"call take_off\(height\)"):
            vehicle.command(here(vehicle), soon())
        for height in (0.0, -1.0, 30.0):
            with pytest.raises(DeviceError, match="geofence"):
                vehicle.take_off(height)
        vehicle.take_off(0.6)
        assert simulated.truth().data["position"][2] == pytest.approx(0.6, abs=0.2)
        with pytest.raises(DeviceError, match="flies already"):
            vehicle.take_off(1.0)
        start = here(vehicle)

        def way(seconds):  # there and back, gently
            return start[:3] + np.array([0.15, 0.0, 0.1]) * (1 - np.cos(2.0 * seconds))

        begun, before = len(simulated.set_points()), vehicle.lateness()
        assert follow(vehicle, simulated, way, 2.0).max() < 0.25
        assert simulated.truth().data["rotation"][2] == pytest.approx(0.3, abs=0.1)
        ticks, arrived = vehicle.lateness().since(before), simulated.set_points()[begun:, 0]
        assert abs(len(arrived) - (ticks.ticks - ticks.skipped)) <= 2  # none was lost, but at both ends
        assert (np.diff(arrived) % 20 == 0).all()  # on the grid of 50 Hz
        vehicle.land()
        truth = simulated.truth().data
        assert not truth["armed"]
        assert abs(truth["position"][2]) < 0.02


@pytest.mark.soak
def test_px4_takes_off_by_set_points_and_velocities_lead_on_and_it_returns(simulated):
    with flight(simulated, 0.0, autopilot="px4", set_point="velocity") as vehicle:
        vehicle.take_off(0.5)
        goal = here(vehicle) + np.array([0.2, -0.3, 0.1, 0.0, 0.0, 0.4])

        def arrived():
            vehicle.command(goal, soon())
            truth = simulated.truth().data
            return (
                np.linalg.norm(truth["position"] - goal[:3]) < 0.05
                and abs(truth["rotation"][2] - goal[5]) < 0.05
            )

        assert wait_until(arrived, pause_s=0.05)
        vehicle.return_home()
        truth = simulated.truth().data
        assert not truth["armed"]
        assert np.linalg.norm(truth["position"][:2]) < 0.2


@pytest.mark.soak
def test_a_vehicle_outside_of_the_geofence_is_stopped_and_hovers(simulated):
    with flight(simulated, 3.3) as vehicle:
        assert wait_until(lambda: "stays between" in stopped(vehicle))
        assert any(event.data["limit"] == "geofence" for event in vehicle.safety_events())
        assert wait_until(lambda: simulated.truth().data["mode"] == 7)  # OFFBOARD
        count = simulated.truth().data["set_points"]
        assert wait_until(lambda: simulated.truth().data["set_points"] > count + 20)  # it is told to hover
        assert np.linalg.norm(simulated.truth().data["position"] - [0, 0, 3.3]) < 0.1


@pytest.mark.soak
def test_a_vehicle_that_does_not_arm_says_why(simulated):
    with flight(simulated, 0.0) as vehicle:
        simulated.refuse_arming("PreArm: compass not calibrated")
        with pytest.raises(DeviceError, match=r"start its rotors.*TEMPORARILY_REJECTED.*not calibrated"):
            vehicle.take_off(0.8)
        simulated.refuse_arming("")
        simulated.allow_take_off(False)
        with pytest.raises(DeviceError, match=r"asked to take off and answered MAV_RESULT_\w+"):
            vehicle.take_off(0.8)
        simulated.allow_take_off(True)
        assert abs(simulated.truth().data["position"][2]) < 0.01


@pytest.mark.soak
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("udpin://127.0.0.1:{}", "udpout:127.0.0.1:{}"), ("tcpin://127.0.0.1:{}", "tcp:127.0.0.1:{}")],
)
def test_other_connections_fly_as_well(theirs, ours):
    port = free_port()
    with (
        SimulatedVehicle(theirs.format(port), height=1.0) as simulated,
        MavlinkVehicle(MavlinkConfig(address=ours.format(port))) as vehicle,
    ):
        reaches(vehicle, simulated)


@pytest.mark.soak
def test_a_serial_line_flies_as_well():
    cable = PtyPair()
    with (
        SimulatedVehicle(f"serial://{cable.near}:921600", height=1.0) as simulated,
        MavlinkVehicle(MavlinkConfig(address=cable.far)) as vehicle,
    ):
        reaches(vehicle, simulated)
        cable.cut()
        with pytest.raises(DeviceError, match=r"was cut: .* connect again"):
            stays(vehicle, 3.0)


def stays(vehicle, seconds):
    for _ in range(round(seconds / 0.02)):
        vehicle.command([0.2, 0.0, 1.0, 0.0, 0.0, 0.0], soon())
        time.sleep(0.02)


def reaches(vehicle, simulated):
    def arrived():
        vehicle.command([0.2, 0.0, 1.0, 0.0, 0.0, 0.0], soon())
        return np.linalg.norm(simulated.truth().data["position"] - [0.2, 0.0, 1.0]) < 0.03

    assert wait_until(arrived, pause_s=0.05)


def test_wrong_settings_are_refused_before_anything_starts():
    with pytest.raises(UnknownNameError, match="'px4'"):
        MavlinkConfig(autopilot="px3")
    with pytest.raises(UnknownNameError, match="'position'"):
        MavlinkConfig(set_point="positions")
    with pytest.raises(ConfigError, match=r"robot\.system_id is 0"):
        MavlinkConfig(system_id=0)
    with pytest.raises(ConfigError, match=r"robot\.geofence_upper is .*give 3 finite numbers"):
        MavlinkConfig(geofence_upper=[3.0, 3.0])
    with pytest.raises(ConfigError, match="give a rate above 2 Hz"):
        MavlinkConfig(rate_hz=1.0)
    with pytest.raises(ConfigError, match="hover_thrust"):
        MavlinkConfig(hover_thrust=1.5)
    with pytest.raises(ConfigError, match="fixed base"):
        MavlinkVehicle(MavlinkConfig(embodiment="ur5e"))
