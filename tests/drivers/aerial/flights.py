"""A simulated vehicle under MAVSDK's autopilot, and the driver on the other end of its link."""

import socket
from contextlib import contextmanager

import numpy as np
import pytest

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.aerial.configs import MavlinkConfig
from robopolicy_drivers.aerial.vehicle import MavlinkVehicle
from robopolicy_sim.autopilot.vehicle import SimulatedVehicle

for module, extra in (("pymavlink", "mavlink"), ("mavsdk", "autopilot"), ("mujoco", "sim")):
    pytest.importorskip(module, reason=f"{module} is not installed (extra '{extra}')")


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def flight(simulated, height=1.0, **settings):
    """The driver, connected to a simulated vehicle that hovers at a height [m], or stands at 0."""
    simulated.begin(height)
    with MavlinkVehicle(MavlinkConfig(address=driver_address(simulated), **settings)) as vehicle:
        yield vehicle


def simulated_vehicle():
    """One with a port of its own, disconnected."""
    return SimulatedVehicle(f"udpout://127.0.0.1:{free_port()}")


def driver_address(simulated):
    """The other end of its link."""
    return f"udpin:127.0.0.1:{simulated.address.rpartition(':')[2]}"


def here(vehicle):
    """The measured pose [6]."""
    state = vehicle.state()[1]
    return np.concatenate([state["robot0_eef_pos"], state["robot0_eef_rot_axis_angle"]]).astype(float)


def soon(seconds=0.5):
    return now_ns() + seconds_to_ns(seconds)


def stopped(vehicle):
    """Why commands are refused; empty while they are not."""
    try:
        vehicle.command(here(vehicle), soon())
    except DeviceError as error:
        return str(error)
    return ""
