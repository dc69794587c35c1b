"""Makes ``gel_images`` and ``sensor_faults`` importable; starts emulators."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

EMULATORS = Path(__file__).parent.parent / "emulators"


class Emulator:
    """An emulator in a process of its own; ``told`` are the words that it printed first."""

    def __init__(self, name, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, str(EMULATORS / f"{name}.py"), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.told = self.process.stdout.readline().split()

    def tell(self, line):
        """Returns when it has obeyed."""
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def emulator():
    """``emulator(name, *arguments)`` starts one of ``tests/drivers/emulators``."""
    started = []

    def start(name, *arguments):
        started.append(Emulator(name, *arguments))
        return started[-1]

    yield start
    for each in started:
        each.close()
