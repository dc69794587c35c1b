"""Makes ``flights`` and the emulators importable; one simulated vehicle for all tests; MAVLink 2."""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent / "emulators")]
os.environ["MAVLINK20"] = "1"


@pytest.fixture(scope="session")
def simulated():
    """The simulated vehicle; ``flights.flight`` puts it where a test begins."""
    from flights import simulated_vehicle

    with simulated_vehicle() as vehicle:
        yield vehicle
