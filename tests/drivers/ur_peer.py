"""Starts the own UR controller emulator in a process of its own, and tells it what happens to its robot."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

_EMULATOR = Path(__file__).parent / "emulators" / "ur_controller.py"
_numbers = itertools.count(1)


def free_host() -> str:
    """Returns an address of this computer that no other process of the tests uses."""
    pid = os.getpid()
    return f"127.{20 + (pid >> 8) % 200}.{pid % 256}.{1 + next(_numbers) % 250}"


class EmulatedUr:
    """A ``with`` statement in which the emulator runs.

    Args:
        options: of ``ur_controller.py``, without their dashes.

    Attributes:
        host: its address.
    """

    def __init__(self, **options: object) -> None:
        self.host = free_host()
        given = [(f"--{name.replace('_', '-')}", str(value)) for name, value in options.items()]
        self._command = [sys.executable, str(_EMULATOR), "--host", self.host, *itertools.chain(*given)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        self._process.stdin.close()
        self._process.stdout.close()

    def say(self, line: str) -> None:
        """Tells it what happens, see ``_PENDANT`` there."""
        self._process.stdin.write(f"{line}\n")

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
