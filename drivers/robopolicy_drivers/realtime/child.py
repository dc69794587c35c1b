"""The child's side of a ``DeviceProcess``."""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Protocol

import numpy as np

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import RobopolicyError
from robopolicy_datasets.registry import load_target
from robopolicy_drivers.emergency_stop import RobotClaim
from robopolicy_drivers.realtime.memory import SharedMemory
from robopolicy_drivers.realtime.process import SHARED_WORDS, split_words
from robopolicy_drivers.realtime.ring import Ring

_GRACE_S = 2.0


class _Answerable(Protocol):
    """Where a message came from."""

    def send(self, message: tuple[int, bool, Any], /) -> None:
        """Sends (number of the message, whether it was done, value)."""


@dataclass
class Message:
    """A message from the parent; a "stop" may also come from any other process of the user.

    Attributes:
        name: what is asked.
        payload: with what.
    """

    name: str
    payload: Any
    _number: int = field(repr=False)
    _connection: _Answerable = field(repr=False)

    def reply(self, value: Any = None) -> None:
        """Answers a request; does nothing for a message that expects no answer."""
        if self._number:
            _send(self._connection, (self._number, True, value))

    def refuse(self, reason: str) -> None:
        """Answers a request with an error, which the parent raises as DeviceError."""
        if self._number:
            _send(self._connection, (self._number, False, reason))


class DeviceChannel:
    """What the function in a device process is given.

    Attributes:
        rings: shared with the parent, by name.
        statistics: lateness of the loop, readable by the parent at any time.
        sections: times of the sections of its cycles, likewise.
        closing: whether the parent wants the process to end, or is gone.
    """

    def __init__(
        self,
        connection: Connection,
        rings: Mapping[str, Ring],
        words: np.ndarray,
        claim: RobotClaim | None = None,
    ) -> None:
        self.rings = dict(rings)
        self.statistics, self.sections = split_words(words)
        self.closing = False
        self._connection = connection
        self._claim = claim
        self._heartbeat = words[:1]
        # A poll object made once takes a microsecond a call; Connection.poll builds one each time.
        self._poll = select.poll()
        self._poll.register(connection.fileno(), select.POLLIN)

    def ready(self, value: Any = None) -> None:
        """Tells the parent that set-up is done, with a value that its ``start`` returns."""
        gc.collect()
        gc.freeze()
        self._heartbeat[0] = now_ns()
        if not _send(self._connection, (0, True, value)):
            self.closing = True

    def messages(self) -> list[Message]:
        """Shows a sign of life and returns the messages since the last call; call it once a tick."""
        self._heartbeat[0] = now_ns()
        stops = [] if self._claim is None else self._claim.requests()
        received = [Message("stop", stop.reason, 1, stop) for stop in stops]
        while not self.closing and self._poll.poll(0):
            try:
                number, name, payload = self._connection.recv()
            except (EOFError, OSError):
                self.closing = True
            else:
                received.append(Message(name, payload, number, self._connection))
        return received


def main(connection_descriptor: int, lifeline: int, memory_descriptor: int) -> None:
    """Runs the target that the parent names; the entry of the child process."""
    # Ctrl-C reaches the whole process group; the parent decides when a device stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()
    connection = Connection(connection_descriptor)
    words = SharedMemory.attach(memory_descriptor, 8 * SHARED_WORDS).array(np.int64, (SHARED_WORDS,))
    try:
        _, target, setup = connection.recv()
    except (EOFError, ConnectionError):
        return  # the parent is gone
    claim = None
    try:
        claim = RobotClaim(setup["robot"], os.getppid()) if setup["robot"] else None
        rings = {name: Ring.attach(handle) for name, handle in setup["rings"].items()}
        load_target(target)(DeviceChannel(connection, rings, words, claim), **setup["arguments"])
    except Exception as error:
        text = str(error) if isinstance(error, RobopolicyError) else traceback.format_exc()
        _tell(connection, text)
        sys.exit(1)
    finally:
        if claim is not None:
            claim.close()


def _send(connection: _Answerable, message: Any) -> bool:
    """Sends a message; returns false where the parent is gone, which is no error of the device."""
    try:
        connection.send(message)
    except ConnectionError:
        return False
    return True


def _tell(connection: Connection, text: str) -> None:
    try:
        connection.send((0, False, text))
    except OSError:
        sys.stderr.write(text + "\n")


def _end_with_parent(lifeline: int) -> None:
    """Waits until the parent closes the pipe or dies; ends a process that then does not end by itself."""
    os.read(lifeline, 1)
    time.sleep(_GRACE_S)
    os._exit(1)
