"""What goes wrong with a vehicle in the air, and how soon it is answered (printed by pytest -rP).

The simulated autopilot behaves as PX4 does where set points stay away: after half a second it holds.
"""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from device_targets import wait_until
from flights import driver_address, flight, free_port, here, simulated_vehicle, soon, stopped

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.aerial.configs import MavlinkConfig
from robopolicy_drivers.aerial.vehicle import MavlinkVehicle

pytestmark = pytest.mark.realtime

HOLD, LAND, OFFBOARD, POSCTL, STABILIZED = 3, 6, 7, 11, 13  # MAVSDK's numbers of modes
HOVER_LIMIT_S = 4.0  # longer than any test but one keeps silent


@pytest.fixture(scope="module")
def flying(simulated):
    """One flight for all tests of this module that do not kill anything."""
    with flight(simulated, hover_limit_s=HOVER_LIMIT_S) as vehicle:
        yield vehicle


@pytest.fixture
def vehicle(flying, simulated):
    """The same, following set points again whatever was before."""
    if simulated.truth().data["mode"] != OFFBOARD:
        simulated.enter("HOLD")
    wait_until(lambda: released(flying))
    fly_on(flying, simulated)
    return flying


def fly_on(vehicle, simulated):
    """Commands it to stay until it follows set points."""

    def follows():
        if stopped(vehicle):  # also over what happened meanwhile, as between two tests
            released(vehicle)
        return simulated.truth().data["mode"] == OFFBOARD

    assert wait_until(follows, pause_s=0.05)
    time.sleep(1.1)  # a heartbeat later the driver knows that too
    vehicle.command(here(vehicle), soon())


def released(vehicle):
    try:
        vehicle.release()
    except DeviceError:
        return False
    return True


def streaming(simulated, seconds=0.3):
    """Whether set points come."""
    before = simulated.truth().data["set_points"]
    time.sleep(seconds)
    return simulated.truth().data["set_points"] > before + 1


def test_a_silent_vehicle_ends_the_stream_and_flies_on_after_a_release(vehicle, simulated, reaction):
    simulated.freeze()
    try:
        reaction("a silent vehicle", lambda: "the link is lost" in stopped(vehicle))
        assert "See to the radio" in stopped(vehicle)
        with pytest.raises(DeviceError, match="not released: the link is lost"):
            vehicle.release()
    finally:
        simulated.thaw()
    assert wait_until(lambda: simulated.truth().age_s() < 0.1)
    time.sleep(0.6)
    assert not streaming(simulated)
    assert simulated.truth().data["mode"] == HOLD  # the autopilot's own fail-safe
    simulated.enter("HOLD")
    vehicle.release()
    fly_on(vehicle, simulated)
    assert streaming(simulated)


def test_the_pilots_switch_takes_the_vehicle_over(vehicle, simulated, reaction):
    simulated.enter("POSCTL")
    reaction("a take-over by the pilot", lambda: "taken over" in stopped(vehicle))
    assert "its mode is POSCTL" in stopped(vehicle)
    assert "the pilot's switch" in stopped(vehicle)
    assert not streaming(simulated)
    assert simulated.truth().data["mode"] == POSCTL  # and is not touched


def test_another_station_that_takes_the_vehicle_over_is_named(vehicle, simulated, reaction):
    from pymavlink import mavutil

    port = free_port()
    simulated.open(f"udpin://127.0.0.1:{port}")
    other = mavutil.mavlink_connection(f"udpout:127.0.0.1:{port}", source_system=77, source_component=190)
    stabilized = 7  # the one mode of others that MAVSDK's autopilot accepts

    def taken():
        other.mav.heartbeat_send(6, 8, 0, 0, 4)
        other.mav.command_long_send(1, 1, 176, 0, 1, stabilized, 0, 0, 0, 0, 0)
        return simulated.truth().data["mode"] == STABILIZED

    assert wait_until(taken, pause_s=0.05)
    reaction("a take-over by another station", lambda: "taken over" in stopped(vehicle))
    # MAVSDK tells its answer to that station alone.
    assert "system 77, component 190 (MAV_TYPE_GCS)" in stopped(vehicle)
    assert not streaming(simulated)
    other.close()


def test_without_commands_it_hovers_and_then_the_stream_ends(vehicle, simulated):
    start = here(vehicle)
    begun_ns = now_ns()
    vehicle.command(start + np.array([0.3, 0.0, 0.0, 0.0, 0.0, 0.0]), soon(1.0))
    time.sleep(1.0)
    assert streaming(simulated)  # it hovers: set points go on
    assert any(event.data["limit"] == "stale_command" for event in vehicle.safety_events())
    assert wait_until(lambda: not streaming(simulated, 0.1))
    print(
        f"the stream ended {1e-9 * (simulated.set_points()[-1, 1] - begun_ns):.2f} s after the last command"
    )
    assert f"no command has come for {HOVER_LIMIT_S:.0f}." in stopped(vehicle)
    assert wait_until(lambda: simulated.truth().data["mode"] == HOLD)


def test_a_stop_in_the_middle_of_a_landing_is_a_hover(vehicle, simulated):
    with ThreadPoolExecutor(1) as pool:
        landing = pool.submit(vehicle.land)
        assert wait_until(lambda: simulated.truth().data["mode"] == LAND)
        with pytest.raises(DeviceError, match="about to land; wait for that"):
            vehicle.command(here(vehicle), soon())
        vehicle.stop("the red button")
        with pytest.raises(DeviceError, match="was stopped: the red button"):
            landing.result()
    assert wait_until(lambda: simulated.truth().data["mode"] == OFFBOARD)
    assert streaming(simulated, 1.0)
    assert simulated.truth().data["position"][2] > 0.3


@pytest.mark.soak
def test_the_pilot_may_take_over_in_the_middle_of_a_landing(vehicle, simulated, reaction):
    with ThreadPoolExecutor(1) as pool:
        landing = pool.submit(vehicle.land)
        assert wait_until(lambda: simulated.truth().data["mode"] == LAND)
        simulated.enter("POSCTL")
        reaction("a take-over in a landing", landing.done)
        with pytest.raises(DeviceError, match="did not land: the vehicle was taken over: its mode is POSCTL"):
            landing.result()
    assert not streaming(simulated)
    assert simulated.truth().data["mode"] == POSCTL


def test_a_second_driver_on_the_same_vehicle_is_refused(flying):
    second = MavlinkVehicle(MavlinkConfig(address=flying.config.address))
    with pytest.raises(DeviceError, match="in use"):
        second.connect()


def test_a_stop_in_the_air_is_a_hover(vehicle, simulated):
    vehicle.stop("the red button")
    assert "the red button" in stopped(vehicle)
    where = simulated.truth().data["position"]
    assert streaming(simulated, 0.5)
    assert np.linalg.norm(simulated.truth().data["position"] - where) < 0.05


def test_another_station_with_our_own_id_ends_the_stream(vehicle, simulated, reaction):
    from pymavlink import mavutil

    port = free_port()
    simulated.open(f"udpin://127.0.0.1:{port}")
    twin = mavutil.mavlink_connection(f"udpout:127.0.0.1:{port}", source_system=245, source_component=191)

    def heard():
        twin.mav.heartbeat_send(6, 8, 0, 0, 4)
        return "our own id" in stopped(vehicle)

    reaction("another station with our id", heard)
    with pytest.raises(DeviceError, match=r"not released: .*robot\.station_id"):
        vehicle.release()
    twin.close()
    assert wait_until(lambda: released(vehicle))


def test_a_killed_driver_leaves_the_vehicle_to_its_fail_safe(vehicle, simulated, record_property):
    os.kill(vehicle.pid, signal.SIGKILL)
    falls_into_its_fail_safe(simulated, "a killed driver", record_property)
    with pytest.raises(DeviceError, match="SIGKILL"):
        vehicle.command(np.zeros(6), soon())
    vehicle.close()


@pytest.mark.soak
def test_whoever_else_is_killed_the_others_know_what_to_do(record_property, reaction):
    with simulated_vehicle() as simulated:
        simulated.begin(1.0)
        address = driver_address(simulated)
        program = subprocess.Popen([sys.executable, Path(__file__).parent / "flying_program.py", address])
        assert wait_until(lambda: simulated.truth().data["mode"] == OFFBOARD, timeout_s=30.0)
        program.kill()
        program.wait()
        falls_into_its_fail_safe(simulated, "a killed program", record_property)
        with flight(simulated) as vehicle:
            fly_on(vehicle, simulated)
            os.kill(simulated.pid, signal.SIGKILL)
            reaction("a killed autopilot", lambda: "the link is lost" in stopped(vehicle))


def falls_into_its_fail_safe(simulated, fault, record_property):
    before_ns = simulated.truth().data["fail_safe_ns"]
    assert wait_until(lambda: simulated.truth().data["fail_safe_ns"] > before_ns)
    milliseconds = 1e-6 * (simulated.truth().data["fail_safe_ns"] - simulated.set_points()[-1, 1])
    record_property(fault, milliseconds)
    print(f"reaction to {fault}: {milliseconds:.1f} ms after its last set point")
    assert not streaming(simulated)
