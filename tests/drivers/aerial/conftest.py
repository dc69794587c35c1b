"""Makes ``flights`` importable; one simulated vehicle for all tests. pymavlink speaks MAVLink 2 here too."""

import os
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
os.environ["MAVLINK20"] = "1"


@pytest.fixture(scope="session")
def simulated():
    """The simulated vehicle; ``flights.flight`` puts it where a test begins."""
    from flights import simulated_vehicle

    with simulated_vehicle() as vehicle:
        yield vehicle
