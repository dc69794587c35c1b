"""A device in a process of its own: heartbeat, commands, replies, and errors that come back as DeviceError.

The child is a fresh interpreter (not a fork) that runs ``target(channel, **arguments)``. It ends when it is
told to, and also when its parent dies in any way: a pipe that only the parent holds open tells it.

Messages are a queue that keeps their order, loses none and is bounded by the socket's buffer. Where it is
full, the child has not read for a while: ``send`` raises then, and never waits. (That a newer target replaces
an older one is for the device to say; see ``WaypointInterpolator``.)
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, ns_to_seconds
from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.realtime.memory import SharedMemory
from robopolicy_drivers.realtime.ring import Ring
from robopolicy_drivers.realtime.sections import CycleSummary, SectionStatistics
from robopolicy_drivers.realtime.statistics import LatenessStatistics, LatenessSummary

logger = logging.getLogger(__name__)

_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from robopolicy_drivers.realtime.child import main; main(*map(int, sys.argv[2:]))"
)
# The small matrices of a control loop gain nothing from threads, which would only disturb the other core.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# Heartbeat [ns], lateness statistics, section statistics.
SHARED_WORDS = 1 + LatenessStatistics.SIZE + SectionStatistics.SIZE
_GRACE_S = 2.0
_QUEUE_BYTES = 212_992  # what Linux grants to everybody; it counts some 700 bytes for the smallest message


def split_words(words: NDArray[np.int64]) -> tuple[LatenessStatistics, SectionStatistics]:
    """Returns the statistics that lie in the words that a device process shares with its parent."""
    return LatenessStatistics(words[1 : 1 + LatenessStatistics.SIZE]), SectionStatistics(
        words[1 + LatenessStatistics.SIZE :]
    )


class DeviceProcess:
    """Starts, watches and ends one device process.

    Args:
        target: ``"module:function"``, called in the child as ``function(channel, **arguments)`` with a
            ``robopolicy_drivers.realtime.child.DeviceChannel``.
        arguments: for the function; they must be picklable.
        name: for messages, e.g. ``"simulated robot"``.
        rings: shared with the child, by name.
        robot: name of the robot that the child moves, the same for everybody who could move it: it is refused
            where another process has it, and ``emergency_stop.stop_all`` stops it by a "stop" message like
            the parent's. Empty for what does not move.
        heartbeat_timeout_s: silence after which the process counts as stuck [s].
    """

    def __init__(
        self,
        target: str,
        arguments: Mapping[str, Any],
        *,
        name: str,
        rings: Mapping[str, Ring] | None = None,
        robot: str = "",
        heartbeat_timeout_s: float = 0.5,
    ) -> None:
        self.target = target
        self.arguments = dict(arguments)
        self.name = name
        self.rings = dict(rings or {})
        self.robot = robot
        self.heartbeat_timeout_s = heartbeat_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._send_lock = threading.Lock()
        self._receive_lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._failure = ""

    @property
    def pid(self) -> int | None:
        """The child's process id; None before ``start`` and after ``close``."""
        return None if self._process is None else self._process.pid

    def start(self, timeout_s: float = 60.0) -> Any:
        """Starts the child and waits until it is ready.

        Returns:
            what the child passed to ``channel.ready``.

        Raises:
            DeviceError: it failed (with its text) or did not become ready in time.
        """
        if self._process is not None:
            raise DeviceError(f"The {self.name} process runs already; close it before starting it again.")
        self._failure = ""
        memory = SharedMemory(8 * SHARED_WORDS)
        words = memory.array(np.int64, (SHARED_WORDS,))
        self._heartbeat = words[:1]
        self._statistics, self._sections = split_words(words)
        mine, theirs = socket.socketpair()
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _QUEUE_BYTES)
        lifeline_read, self._lifeline = os.pipe()
        inherited = [theirs.fileno(), lifeline_read, memory.descriptor]
        rings = {name: ring.handle() for name, ring in self.rings.items()}
        self._connection = Connection(mine.detach())
        self._writable = select.poll()
        self._writable.register(self._connection.fileno(), select.POLLOUT)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _CHILD, json.dumps(sys.path), *map(str, inherited)],
                pass_fds=[*inherited, *(handle["descriptor"] for handle in rings.values())],
                env={**os.environ, **_ONE_THREAD},
            )
        except BaseException:
            self._connection.close()
            os.close(self._lifeline)
            raise
        finally:
            theirs.close()
            os.close(lifeline_read)
            memory.close()
        try:
            self._send((0, self.target, {"arguments": self.arguments, "rings": rings, "robot": self.robot}))
            return self._wait_for(0, "become ready", timeout_s)
        except BaseException:
            self.close()
            raise

    def restart(self, timeout_s: float = 60.0) -> Any:
        """Ends what is left of the child and starts another one: same arguments, same rings.

        The rings keep their records, and the numbers of new ones go on, so readers need not notice. Nothing
        is restarted by itself: whether a device may move again is for the caller to decide.

        Returns:
            what the new child passed to ``channel.ready``.

        Raises:
            DeviceError: as ``start``.
        """
        if self._process is not None:
            stuck = self._silence_s() > self.heartbeat_timeout_s
            self.close(0.0 if stuck else _GRACE_S)
        return self.start(timeout_s)

    def check(self) -> None:
        """Raises DeviceError unless the child is alive and has given a recent sign of life."""
        if self._process is None:
            raise DeviceError(self._failure or f"The {self.name} is not connected; call connect() first.")
        if self._process.poll() is not None:
            self._fail()
        silence_s = self._silence_s()
        if silence_s > self.heartbeat_timeout_s:
            self._fail_if_it_has_ended()
            raise DeviceError(
                f"The {self.name} process (pid {self.pid}) has given no sign of life for {silence_s:.1f} s "
                f"(allowed: {self.heartbeat_timeout_s} s). It is stopped or stuck: close it, connect again."
            )

    def send(self, name: str, payload: Any = None) -> None:
        """Appends a message, of at most some kilobytes, to the child's queue; never waits.

        Raises:
            DeviceError: the child is not there, or the queue is full; the message was not sent.
        """
        self.check()
        self._send((0, name, payload))

    def request(self, name: str, payload: Any = None, timeout_s: float = 10.0) -> Any:
        """Sends a message and returns the child's reply.

        Raises:
            DeviceError: the child is not there, failed, or did not reply in time.
        """
        self.check()
        with self._receive_lock:
            number = next(self._numbers)
            self._send((number, name, payload))
            return self._wait_for(number, f"answer '{name}'", timeout_s)

    def lateness(self) -> LatenessSummary:
        """Returns how late the ticks of the child's loop were."""
        self.check()
        return self._statistics.summary()

    def cycles(self) -> CycleSummary:
        """Returns how long the sections of the child's cycles took, and which of them overran."""
        self.check()
        return self._sections.summary()

    def close(self, timeout_s: float = _GRACE_S) -> None:
        """Ends the child: asks it to, and kills it after ``timeout_s``. Calling it again does nothing."""
        if self._process is None:
            return
        process, self._process = self._process, None
        os.close(self._lifeline)
        self._connection.close()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            logger.warning("The %s process did not end within %.1f s; it is killed.", self.name, timeout_s)
            process.kill()
            process.wait()

    def _silence_s(self) -> float:
        return ns_to_seconds(now_ns() - int(self._heartbeat[0]))

    def _send(self, message: tuple[int, str, Any]) -> None:
        with self._send_lock:
            # Linux: writable as long as three quarters of the buffer are free, so what follows has room.
            if not self._writable.poll(0):
                raise DeviceError(
                    f"The {self.name} process (pid {self.pid}) has not read its last messages and its queue "
                    f"is full; '{message[1]}' was not sent. Send less often, or restart it if it is stuck."
                )
            try:
                self._connection.send(message)
            except OSError:
                self._fail()

    def _wait_for(self, number: int, action: str, timeout_s: float) -> Any:
        deadline = now_ns() + round(timeout_s * 1e9)
        while (remaining_ns := deadline - now_ns()) > 0:
            try:
                if not self._connection.poll(remaining_ns / 1e9):
                    break
                reply_number, ok, value = self._connection.recv()
            except (EOFError, OSError):
                self._fail()
            if not ok and reply_number == 0:
                self._fail(value)
            if reply_number != number:  # the late answer to a request that was given up
                continue
            if not ok:
                raise DeviceError(f"The {self.name} refused to {action}: {value}")
            return value
        raise DeviceError(
            f"The {self.name} process (pid {self.pid}) did not {action} within {timeout_s:g} s."
        )

    def _fail(self, words: str = "") -> NoReturn:
        """Ends what is left of the child and raises DeviceError with its last words."""
        words = (words or self._last_words()).removesuffix(".")
        process = self._process
        self.close()
        code = None if process is None else process.returncode
        reason = (
            f"was ended by {signal.Signals(-code).name}"
            if code is not None and code < 0
            else f"ended ({code})"
        )
        self._failure = (
            f"The {self.name} process {reason}{': ' if words else ''}{words.removesuffix('.')}. "
            "Connect again to restart it."
        )
        raise DeviceError(self._failure)

    def _fail_if_it_has_ended(self) -> None:
        """Raises what a child that is about to exit has told: that may take it longer than a heartbeat."""
        if not self._receive_lock.acquire(blocking=False):
            return  # whoever waits for an answer is told
        try:
            words = self._last_words()
        finally:
            self._receive_lock.release()
        if words:
            self._fail(words)

    def _last_words(self) -> str:
        try:
            while self._connection.poll(0):
                number, ok, value = self._connection.recv()
                if not ok and number == 0:  # else it is a refusal that nobody waits for any more
                    return str(value)
        except (EOFError, OSError):
            pass
        return ""
