"""Makes ``device_targets`` importable here and in the device processes that the tests start."""

import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from device_targets import wait_until


@pytest.fixture
def reaction(request, record_property):
    """Measures how long a fault goes unnoticed: printed (``pytest -rP``) and stored, never judged."""
    assert request.node.get_closest_marker("realtime"), "what is measured beside other tests says nothing"

    def measure(fault, noticed):
        begun = time.monotonic()
        assert wait_until(noticed, pause_s=0.0005)
        milliseconds = 1e3 * (time.monotonic() - begun)
        record_property(fault, milliseconds)
        print(f"reaction to {fault}: {milliseconds:.1f} ms")

    return measure
