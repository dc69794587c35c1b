"""A worker: a process that serves its parent with environments, and that ends with it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from robopolicy_datasets.errors import ConfigError, RobopolicyError, SimulationError

_GRACE_S = 5.0


class WorkerDiedError(SimulationError):
    """The process of a worker ended in the middle of its work."""


class Worker:
    """Runs ``serve(connection, *arguments)`` in a process of its own, started afresh (no fork).

    Where ``serve`` raises an error, ``receive`` raises it here: a RobopolicyError as itself, others as
    SimulationError with the traceback. ``serve`` ends by EOFError when this side closes or dies.

    Args:
        serve: a function of a module.
        arguments: for it; they must be picklable.

    Raises:
        ConfigError: an argument cannot be handed to another process.
    """

    def __init__(self, serve: Callable[..., None], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(theirs, serve, arguments), daemon=True)
        try:
            self._process.start()
        except Exception as error:  # whatever the arguments' own pickling raises
            self.connection.close()
            raise ConfigError(
                f"This cannot be handed to a worker process: {error}. Give a task config or a function of a "
                "module (no lambda, no local class), or work with workers=1."
            ) from error
        finally:
            theirs.close()

    def send(self, message: Any) -> None:
        """Sends a message; that a dead worker does not get it, ``receive`` tells."""
        try:
            self.connection.send(message)
        except ConnectionError:
            return

    def receive(self) -> Any:
        """Waits for the worker's next message.

        Raises:
            WorkerDiedError: it died.
            RobopolicyError: it failed.
        """
        try:
            failed, value = self.connection.recv()
        except (EOFError, ConnectionError):
            raise WorkerDiedError(f"The worker process {self._how_it_ended()}.") from None
        if failed:
            raise value
        return value

    def close(self) -> None:
        """Ends the process."""
        self.connection.close()
        self._process.join(_GRACE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _how_it_ended(self) -> str:
        self._process.join(_GRACE_S)
        code = self._process.exitcode
        if code is None:
            return "closed its connection"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"


class ParentConnection:
    """The worker's end of the connection.

    Args:
        connection: to the parent.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, value: Any) -> None:
        """Sends what the parent's ``receive`` returns."""
        self._connection.send((False, value))

    def receive(self) -> Any:
        """Waits for the parent's next message.

        Raises:
            EOFError: the parent wants no more, or is gone.
        """
        try:
            return self._connection.recv()
        except ConnectionError as error:
            raise EOFError from error


def _main(connection: Connection, serve: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent, whom it reaches too, decides
    # Several processes draw at the same time; threads of one would only disturb the others.
    os.environ.setdefault("LP_NUM_THREADS", "1")
    try:
        serve(ParentConnection(connection), *arguments)
    except (EOFError, ConnectionError):
        return
    except RobopolicyError as error:
        _tell(connection, error)
    except Exception:
        _tell(connection, SimulationError(f"A worker process failed:\n{traceback.format_exc()}"))


def _tell(connection: Connection, error: RobopolicyError) -> None:
    """Sends an error; where the parent has gone, another worker's error has come before this one."""
    with contextlib.suppress(ConnectionError):
        connection.send((True, error))
