"""A program that keeps a vehicle where it is until it is killed: python flying_program.py ADDRESS."""

import sys
import time

from robopolicy_datasets.clock import now_ns
from robopolicy_drivers.aerial.configs import MavlinkConfig
from robopolicy_drivers.aerial.vehicle import MavlinkVehicle

with MavlinkVehicle(MavlinkConfig(address=sys.argv[1])) as vehicle:
    while True:
        vehicle.command([0.0, 0.0, 1.0, 0.0, 0.0, 0.0], now_ns() + 500_000_000)
        time.sleep(0.02)
