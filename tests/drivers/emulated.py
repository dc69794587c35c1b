"""Starts the emulators of ``emulators``, each in a process of its own, and tells them what happens."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

EMULATORS = Path(__file__).parent / "emulators"


class Emulated:
    """A running emulator; as a ``with`` statement, it runs for as long.

    Args:
        name: of its program, without ``.py``.
        arguments: of that program.

    Attributes:
        told: the words that it printed first, when it was ready.
    """

    def __init__(self, name: str, *arguments: object) -> None:
        command = [sys.executable, str(EMULATORS / f"{name}.py"), *map(str, arguments)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1)
        self.told = self._process.stdout.readline().split()
        assert self.told, f"{name} has ended: {self._process.wait()}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def say(self, line: str) -> None:
        """Tells it what happens to its device; its program lists the words."""
        self._process.stdin.write(f"{line}\n")

    def tell(self, line: str) -> None:
        """The same to an emulator that answers; returns when it has obeyed."""
        self.say(line)
        assert self._process.stdout.readline() == "done\n"

    def freeze(self) -> None:
        """Lets it hang: its connections stay, and it answers nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Ends it, also where it is killed already."""
        self.kill()
        self._process.stdin.close()
        self._process.stdout.close()
