"""Makes ``gel_images`` and ``sensor_faults`` importable; starts emulators."""

import sys
from pathlib import Path

import pytest
from emulated import Emulated

sys.path.append(str(Path(__file__).parent))


@pytest.fixture
def emulator():
    """``emulator(name, *arguments)`` starts one of ``tests/drivers/emulators``."""
    started = []

    def start(name, *arguments):
        started.append(Emulated(name, *arguments))
        return started[-1]

    yield start
    for each in started:
        each.close()
