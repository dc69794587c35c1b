"""The process of a foreign environment: started, asked, and ended without a trace, whatever it does."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import threading
import weakref
from collections import deque
from pathlib import Path
from typing import IO, Any, NoReturn

from robopolicy_datasets.errors import ConfigError, MissingExtraError, SimulationError
from robopolicy_sim.bridge.foreign import foreign_server
from robopolicy_sim.rendering import configure_gl

logger = logging.getLogger(__name__)

KEPT_LINES = 20
"""Lines of the process's output that an error can quote."""

_GRACE_S = 2.0
_QUOTED_LINES = 6
_OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")  # of our interpreter, not of the foreign one


class ForeignProcess:
    """Runs ``foreign_server.py`` with a foreign interpreter and speaks with it.

    Args:
        python: path of the interpreter.
        name: of the environment, for messages.
        timeout_s: longest wait for an answer [s].

    Raises:
        ConfigError: the interpreter cannot be started.
    """

    def __init__(self, python: str, name: str, *, timeout_s: float) -> None:
        self.name = name
        self._failure = ""
        self._output: deque[str] = deque(maxlen=KEPT_LINES)
        mine, theirs = socket.socketpair()
        lifeline, kept = os.pipe()
        passed = [theirs.fileno(), lifeline]
        mine.settimeout(timeout_s)
        try:
            process = subprocess.Popen(
                [os.path.abspath(Path(python).expanduser()), foreign_server.__file__, *map(str, passed)],
                pass_fds=passed,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=_environment(),
                text=True,
                errors="replace",
                start_new_session=True,  # so that all that it starts is ended with it
            )
        except OSError as error:
            mine.close()
            os.close(kept)
            raise ConfigError(
                f"The Python interpreter '{python}' of the foreign environment '{name}' cannot be started "
                f"({os.strerror(error.errno or 0)}). Give the path of one that has numpy, gymnasium and the "
                "environment, e.g. /path/to/venv/bin/python."
            ) from error
        finally:
            theirs.close()
            os.close(lifeline)
        self._process, self._connection = process, mine
        # Also where nobody closes it: at the collection of this object, and when the interpreter ends.
        self._end = weakref.finalize(self, _end, process, mine, kept)
        self._reader = threading.Thread(target=_read, args=(process.stdout, self._output, name), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def request(self, operation: str, **arguments: Any) -> Any:
        """Asks for an operation of ``foreign_server.Server`` and returns its value.

        Raises:
            SimulationError: the environment raised an error; or the process died, did not answer in time or
                answered nonsense, and is ended.
        """
        if not self._end.alive:
            raise SimulationError(self._failure or f"The foreign environment '{self.name}' is closed.")
        try:
            foreign_server.send(self._connection, {"do": operation, **arguments})
            answer = foreign_server.receive(self._connection)
        except TimeoutError:
            waited_s = self._connection.gettimeout()
            self._fail(f"did not answer '{operation}' within {waited_s:g} s and was ended")
        except (EOFError, OSError):
            self._fail(self._how_it_ended())
        except foreign_server.WireError as error:
            self._fail(f"and robopolicy do not understand each other ({error}); it was ended")
        except BaseException:  # an interrupt: the answer that is still to come fits no later question
            self.close()
            raise
        if not isinstance(answer, dict) or not answer.keys() <= {"value", "error"} or len(answer) != 1:
            self._fail(f"answered '{operation}' with something else than an answer and was ended")
        if "error" in answer:
            raise SimulationError(
                f"The foreign environment '{self.name}' failed in '{operation}': {answer['error']}"
            )
        return answer["value"]

    def close(self) -> None:
        """Ends the process and all that it started. A second call does nothing."""
        self._end()

    def _how_it_ended(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)
        code = self._process.poll()
        if code is None:
            return "closed the connection and was ended"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"

    def _fail(self, what: str) -> NoReturn:
        _kill(self._process)
        self.close()
        self._reader.join(_GRACE_S)  # what it wrote last
        lines = [line for line in self._output if line.strip()][-_QUOTED_LINES:]
        quoted = "Its last lines: " + " | ".join(lines) if lines else "It wrote nothing."
        self._failure = f"The foreign environment '{self.name}' {what}. {quoted}"
        raise SimulationError(self._failure)


def _environment() -> dict[str, str]:
    """Returns the environment variables of the process: ours without what is meant for our interpreter."""
    with contextlib.suppress(SimulationError, MissingExtraError):
        configure_gl()
    kept = {name: value for name, value in os.environ.items() if name not in _OURS}
    return {"SDL_VIDEODRIVER": "dummy", **kept, "PYTHONUNBUFFERED": "1"}


def _read(output: IO[str], lines: deque[str], name: str) -> None:
    """Takes what the process writes, so that it never waits for a reader."""
    with output:
        for line in output:
            lines.append(line.rstrip())
            logger.debug("%s: %s", name, lines[-1])


def _end(process: subprocess.Popen[str], connection: socket.socket, lifeline: int) -> None:
    connection.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)
    os.close(lifeline)
    _kill(process)
    process.wait()


def _kill(process: subprocess.Popen[str]) -> None:
    """Ends the process and all that it started and left behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
