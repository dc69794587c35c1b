"""A Franka to test against: ``emulators/franka_faults.py`` in a process of its own, on a host of its own."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from robopolicy_datasets.clock import now_ns

PROGRAM = Path(__file__).parent / "emulators" / "franka_faults.py"
_NUMBERS = itertools.count(1)


def own_host() -> str:
    """Returns a loopback address that no other test process uses."""
    return f"127.{100 + next(_NUMBERS)}.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"


class FrankaPeer:
    """A simulated Franka, and what can happen to it."""

    def __init__(self) -> None:
        pytest.importorskip("franky_sim", reason="franky-sim is not installed")
        self.host = own_host()
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), self.host],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"
        with suppress(PermissionError):  # an arm's controller has a computer of its own
            os.sched_setscheduler(self.process.pid, os.SCHED_FIFO, os.sched_param(50))

    def say(self, word: str) -> int:
        """Lets something happen to the arm; returns when [ns, monotonic]."""
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return now_ns()

    def send(self, number: signal.Signals) -> int:
        """Sends a signal to its process; returns when [ns, monotonic]."""
        self.process.send_signal(number)
        return now_ns()

    def close(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.wait()
