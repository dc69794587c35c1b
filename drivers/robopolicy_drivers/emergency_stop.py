"""Robots that run now: who has them, and how any process of the same user stops them.

The process that moves a robot claims it by name: a locked file, which the kernel unlocks however the process
ends, and a datagram socket beside it. Both lie in a folder that only the user may open. A stop comes in
through the socket and reaches the safety gate in the same process, so it needs neither the policy nor the
program that connected the robot: they may hang or be stopped.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from robopolicy_datasets.errors import ConfigError, DeviceError

FOLDER_VARIABLE = "ROBOPOLICY_RUNTIME_DIR"
ANSWER_TIMEOUT_S = 1.0

_LOCK, _SOCKET = ".lock", ".socket"
_MAX_BYTES = 4096
_MAX_PATH = 107  # of a Unix socket on Linux [bytes]
_TRIES, _PAUSE_S = 5, 0.02  # somebody who looks whether a claim is alive holds its lock for an instant


@dataclass(frozen=True)
class RunningRobot:
    """A robot that a process has claimed.

    Attributes:
        name: of the robot.
        pid: of the process that moves it.
        controller: of the process that connected it.
    """

    name: str
    pid: int
    controller: int


class Outcome(StrEnum):
    """What became of a stop."""

    STOPPED = "stopped"
    """Its gate has stopped it."""
    DEAD = "dead"
    """Its process had ended before, without closing it: nothing commands it any more."""
    FAILED = "failed"
    """Its process refused, or did not answer."""


@dataclass(frozen=True)
class StopReport:
    """What became of the stop of one robot.

    Attributes:
        robot: which.
        outcome: how it went.
        detail: why it failed; empty otherwise.
    """

    robot: RunningRobot
    outcome: Outcome
    detail: str = ""


def runtime_folder() -> Path:
    """Returns the folder of claims, made where it is missing.

    It does not depend on the login session, because a robot may be stopped from another one: it is
    ``/tmp/robopolicy-<user id>``, or what ``ROBOPOLICY_RUNTIME_DIR`` names.

    Raises:
        DeviceError: it belongs to somebody else, or others may open it.
    """
    folder = Path(os.environ.get(FOLDER_VARIABLE) or f"/tmp/robopolicy-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise DeviceError(
            f"'{folder}' is not a folder that you alone may open; robots are claimed there. Remove it, or "
            f"name another one in {FOLDER_VARIABLE}."
        )
    return folder


@dataclass(frozen=True)
class StopRequest:
    """A stop that came in through the socket.

    Attributes:
        reason: for the safety gate.
    """

    reason: str
    _socket: socket.socket
    _sender: str
    _name: str

    def send(self, message: tuple[int, bool, Any]) -> None:
        """Answers, as a connection is answered: (number, whether it was done, words)."""
        _, done, words = message
        answer = {"robot": self._name, "stopped": done, "words": "" if words is None else str(words)}
        with contextlib.suppress(OSError):  # who asked may be gone; the stop holds all the same
            self._socket.sendto(json.dumps(answer).encode()[:_MAX_BYTES], self._sender)


class RobotClaim:
    """Claims a robot for this process, until ``close`` or the process's end.

    Args:
        name: of the robot, the same for everybody who could move it, e.g. ``"ur5e-192.168.0.2"``.
        controller: id of the process that connected it.

    Raises:
        DeviceError: another process has it.
    """

    def __init__(self, name: str, controller: int) -> None:
        self.name = name
        self._path = _path_of(name)
        self._lock = _locked(self._path, name)
        content = {"name": name, "pid": os.getpid(), "controller": controller}
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, json.dumps(content).encode(), 0)
        self._socket = _bound(self._path.with_suffix(_SOCKET))

    def requests(self) -> list[StopRequest]:
        """Returns the stops that came in since the last call; never waits."""
        received: list[StopRequest] = []
        while True:
            try:
                data, sender = self._socket.recvfrom(_MAX_BYTES)
            except OSError:  # nothing there
                return received
            reason = data.decode("utf-8", "replace") or "emergency stop"
            received.append(StopRequest(reason, self._socket, sender, self.name))

    def close(self) -> None:
        """Gives the robot back."""
        self._socket.close()
        _remove(self._path)
        os.close(self._lock)


def stop_all(reason: str, timeout_s: float = ANSWER_TIMEOUT_S) -> list[StopReport]:
    """Stops every running robot of this user, all at once.

    Args:
        reason: told to everybody who commands them afterwards.
        timeout_s: how long their answers are waited for [s].

    Returns:
        one report a robot; none where no robot runs.
    """
    folder = runtime_folder()
    reports: list[StopReport] = []
    asked: dict[str, RunningRobot] = {}
    own = folder / f"stop-{os.getpid()}{_SOCKET}"
    own.unlink(missing_ok=True)
    with _bound(own) as client:
        try:
            for path, robot, alive in _claims(folder):
                if not alive:
                    reports.append(StopReport(robot, Outcome.DEAD))
                    continue
                try:
                    client.sendto(reason.encode()[:_MAX_BYTES], str(path.with_suffix(_SOCKET)))
                    asked[robot.name] = robot
                except OSError as error:
                    reports.append(StopReport(robot, Outcome.FAILED, f"cannot be asked: {error.strerror}"))
            for answer in _answers(client, len(asked), timeout_s):
                robot = asked.pop(answer["robot"])
                outcome = Outcome.STOPPED if answer["stopped"] else Outcome.FAILED
                reports.append(StopReport(robot, outcome, answer["words"]))
        finally:
            own.unlink(missing_ok=True)
    silent = f"no answer within {timeout_s:g} s: its process is stopped or stuck"
    reports += [StopReport(robot, Outcome.FAILED, silent) for robot in asked.values()]
    return sorted(reports, key=lambda report: report.robot.name)


def _answers(client: socket.socket, count: int, timeout_s: float) -> Iterator[dict[str, Any]]:
    """Yields the answers of at most ``count`` robots until the time is over."""
    deadline = time.monotonic() + timeout_s
    for _ in range(count):
        client.settimeout(max(deadline - time.monotonic(), 1e-6))
        try:
            yield json.loads(client.recv(_MAX_BYTES))
        except TimeoutError:
            return


def _claims(folder: Path) -> Iterator[tuple[Path, RunningRobot, bool]]:
    """Yields the lock, the robot and whether its process lives, of every claim; removes the dead ones'."""
    for path in sorted(folder.glob(f"*{_LOCK}")):
        try:
            lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # given back just now
        try:
            robot = _read(lock, path)
            alive = not _lock_now(lock)
            if not alive and _is_at(lock, path):
                _remove(path)
        finally:
            os.close(lock)
        if alive or robot.pid:  # otherwise somebody is only about to claim it
            yield path, robot, alive


def _path_of(name: str) -> Path:
    """Returns the lock file of a robot."""
    word = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".")
    path = runtime_folder() / f"{word}{_LOCK}"
    if not word or len(os.fsencode(path.with_suffix(_SOCKET))) > _MAX_PATH:
        raise ConfigError(
            f"The robot's name '{name}' cannot be claimed: '{path}' must have a name, and at most "
            f"{_MAX_PATH} characters with its folder. Give it a shorter one."
        )
    return path


def _locked(path: Path, name: str) -> int:
    """Opens and locks a lock file that is still there when it is locked."""
    for attempt in range(_TRIES):
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if _lock_now(lock) and _is_at(lock, path):
            return lock
        holder = _read(lock, path)
        os.close(lock)
        if attempt < _TRIES - 1:
            time.sleep(_PAUSE_S)
    raise DeviceError(
        f"The robot '{name}' is in use: process {holder.pid} moves it for process {holder.controller}. "
        f"Two programs must not command one robot; end that one first (kill {holder.controller})"
    )


def _lock_now(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(lock: int, path: Path) -> bool:
    """Returns whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(lock), path.lstat())
    except FileNotFoundError:
        return False


def _read(lock: int, path: Path) -> RunningRobot:
    """Reads who has a robot; what a process has not written yet is 0."""
    try:
        content = json.loads(os.pread(lock, _MAX_BYTES, 0))
        return RunningRobot(str(content["name"]), int(content["pid"]), int(content["controller"]))
    except (ValueError, KeyError, TypeError):
        return RunningRobot(path.stem, 0, 0)


def _bound(path: Path) -> socket.socket:
    """Returns a datagram socket at a path, for this user only, that never waits when it is read."""
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        made.bind(str(path))
        path.chmod(0o600)
    except OSError:
        made.close()
        raise
    made.setblocking(False)
    return made


def _remove(path: Path) -> None:
    """Removes a claim's socket and lock file; the lock must be held."""
    path.with_suffix(_SOCKET).unlink(missing_ok=True)
    path.unlink(missing_ok=True)
