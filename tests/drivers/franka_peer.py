"""Frankas to test against, each in a process of its own, on a host of its own."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from device_targets import wait_until

from robopolicy_datasets.clock import now_ns

PROGRAMS = Path(__file__).parent / "emulators"
STRICT_PYTHON = Path(__file__).parents[2] / ".venv-franka-sim" / "bin" / "python"
PORT = 1337
_NUMBERS = itertools.count(1)


def own_host() -> str:
    """Returns a loopback address that no other test process uses."""
    return f"127.{100 + next(_NUMBERS)}.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"


class FrankaPeer:
    """A simulated Franka, and what can happen to it.

    Args:
        command: that serves it.
        host: where.
    """

    def __init__(self, command: list[str], host: str) -> None:
        self.host = host
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        os.set_blocking(self.process.stderr.fileno(), False)
        assert self.process.stdout.readline() == "ready\n"

    def say(self, word: str) -> int:
        """Lets something happen to the arm; returns when [ns, monotonic]."""
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return now_ns()

    def send(self, number: signal.Signals) -> int:
        """Sends a signal to its process; returns when [ns, monotonic]."""
        self.process.send_signal(number)
        return now_ns()

    def complaints(self) -> str:
        """Returns what it has written to its standard error since the last call."""
        with suppress(BlockingIOError):
            return os.read(self.process.stderr.fileno(), 1 << 16).decode()
        return ""

    def close(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.wait()


def franka_peer() -> FrankaPeer:
    """Returns franky-sim with faults to order."""
    if find_spec("franky_sim") is None:
        pytest.skip("franky-sim is not installed")
    host = own_host()
    return FrankaPeer([sys.executable, str(PROGRAMS / "franka_faults.py"), host], host)


def strict_peer() -> FrankaPeer:
    """Returns franka-sim, which enforces the limits of the arm and of its communication."""
    spec = find_spec("franky_sim")
    if spec is None or not STRICT_PYTHON.exists():
        pytest.skip("franka-sim is not installed; run make test-franka-sim")
    assets, host = Path(spec.origin).parent / "assets", own_host()
    peer = FrankaPeer([str(STRICT_PYTHON), str(PROGRAMS / "franka_strict.py"), host, str(assets)], host)
    assert wait_until(lambda: socket.socket().connect_ex((host, PORT)) == 0)
    return peer
