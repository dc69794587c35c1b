"""A simulated vehicle to try a program on: python -m robopolicy_sim.autopilot [--address A] [--height H]."""

from __future__ import annotations

import argparse
import sys
import time

from robopolicy_sim.autopilot.vehicle import SimulatedVehicle


def main() -> None:
    """Flies until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A simulated vehicle whose autopilot speaks MAVLink.")
    parser.add_argument("--address", default="udpout://127.0.0.1:14540", help="where it speaks")
    parser.add_argument("--height", type=float, default=0.0, help="at which it hovers at first [m]")
    given = parser.parse_args()
    with SimulatedVehicle(given.address, height=given.height) as vehicle:
        sys.stdout.write(f"The vehicle speaks at {given.address}; end it with Ctrl-C.\n")
        sys.stdout.flush()
        try:
            while True:
                vehicle.truth()  # raises where its process has failed
                time.sleep(0.5)
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
