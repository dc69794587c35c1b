"""Connecting to a Franka through its control interface (FCI), and what the errors of doing so mean."""

from __future__ import annotations

import importlib
import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import TypeVar

from robopolicy_datasets.errors import DeviceError, missing_extra
from robopolicy_drivers.realtime.scheduling import FIFO_PRIORITY

_Device = TypeVar("_Device")
_TIMEOUT_S = 5.0
_THREADS = "/proc/self/task"


def sdk() -> ModuleType:
    """Returns the package franky.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module("franky")
    except ModuleNotFoundError as error:
        raise missing_extra("franky", "franka") from error


def connection_errors() -> tuple[type[Exception], ...]:
    """Returns what franky raises where a connection is lost; RuntimeError is that of its socket library."""
    return sdk().NetworkException, RuntimeError


def connect(open_device: Callable[[str], _Device], host: str) -> _Device:
    """Returns ``open_device(host)``.

    libfranka waits for ever where somebody else is connected, so it waits in a thread.

    Args:
        open_device: e.g. ``franky.Gripper``.
        host: address or name of the controller.

    Raises:
        DeviceError: the controller is not there, busy, not ready, or speaks another version; with what to do.
    """
    outcome: queue.SimpleQueue[_Device | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            outcome.put(open_device(host))
        except Exception as error:  # all of them are told by the thread that waits
            outcome.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        result = outcome.get(timeout=_TIMEOUT_S)
    except queue.Empty:
        raise DeviceError(
            f"The Franka at {host} has not answered for {_TIMEOUT_S:g} s. Does another program, perhaps on "
            "another computer, control it? It takes one at a time: end that one, and connect again."
        ) from None
    if isinstance(result, Exception):
        raise DeviceError(_advice(result, host)) from result
    return result


def lost(host: str, error: Exception) -> DeviceError:
    """Returns what is told where a connection has broken."""
    return DeviceError(
        f"The connection to the Franka at {host} is lost ({error}). The arm stops by itself. See that its "
        "controller runs and the cable is plugged in, and connect again."
    )


@contextmanager
def punctual_threads() -> Iterator[None]:
    """Puts threads that are started meanwhile under SCHED_FIFO, ahead of our loop, where that is allowed."""
    before = set(os.listdir(_THREADS))
    yield
    # Not by inheritance: that our loop's is reset in its threads, only root may change.
    for thread in set(os.listdir(_THREADS)) - before:
        for priority in (FIFO_PRIORITY + 10, FIFO_PRIORITY):
            with suppress(PermissionError, ProcessLookupError):
                os.sched_setscheduler(int(thread), os.SCHED_FIFO, os.sched_param(priority))
                break


def _advice(error: Exception, host: str) -> str:
    if isinstance(error, sdk().IncompatibleVersionException):
        return (
            f"The Franka at {host} speaks another version of its interface: {error}. Install the "
            "franky-control that its documentation names for the robot's system version, or update the robot."
        )
    if "refused" in str(error):
        return (
            f"The Franka at {host} refuses the connection. Open Desk (https://{host}), unlock the joints and "
            "activate FCI; see that robot.host is the arm's."
        )
    return (
        f"The Franka at {host} cannot be reached: {error}. See that its controller runs, that robot.host is "
        f"right and that this computer is in its network (ping {host})."
    )
