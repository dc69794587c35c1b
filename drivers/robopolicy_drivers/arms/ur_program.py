"""The program by which ur_rtde moves an arm, and the one thread that speaks to it.

ur_rtde's calls wait: for minutes for an answer of the program, for seconds for a lost connection to come
back. No tick of a control loop may do that, and no two threads may call at the same time.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, ns_to_seconds
from robopolicy_drivers.arms.ur import UrConfig
from robopolicy_drivers.realtime.scheduling import request_punctuality

CALL_ERRORS = (RuntimeError, ValueError, IndexError)  # that ur_rtde raises, by the kinds of its C++ ones
WATCHDOG_HZ = 5.0
_BRAKING = 10.0  # rad/s^2
_START_S = 5.0


class UrProgram:
    """Starts the program, gives it set points, and ends it.

    Args:
        control: ur_rtde's ``RTDEControlInterface``, whose program runs.
        config: of the arm.

    Attributes:
        failure: what ur_rtde said when a call failed; empty as long as none did.
        restarting: whether the program is being sent again.
        closed: set when the program has ended and the connection is closed.
    """

    def __init__(self, control: Any, config: UrConfig) -> None:
        self.failure = ""
        self.closed = threading.Event()
        self._control, self._config = control, config
        self._changed = threading.Condition()
        self._target: NDArray | None = None
        self._waiting_since_ns = 0
        self.restarting = self._closing = self._prepared = False
        threading.Thread(target=self._run, daemon=True).start()

    def follow(self, positions: NDArray) -> None:
        """Has the arm follow a set point ``[6]`` [rad]; one that has not been sent yet is forgotten."""
        with self._changed:
            self._target = positions
            self._waiting_since_ns = self._waiting_since_ns or now_ns()
            self._changed.notify()

    def restart(self) -> None:
        """Has the program sent to the controller again."""
        with self._changed:
            self.restarting, self._target, self._waiting_since_ns = True, None, 0
            self._changed.notify()

    def close(self) -> None:
        """Has the program ended, and the connection closed."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    @property
    def untaken_s(self) -> float:
        """For how long the controller has taken no set point although there were some [s]."""
        waiting_since_ns = self._waiting_since_ns
        return ns_to_seconds(now_ns() - waiting_since_ns) if waiting_since_ns else 0.0

    def _run(self) -> None:
        request_punctuality()
        while not self._closing:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self.restarting or self._target is not None)
                target, self._target = self._target, None
            try:
                if self.restarting:
                    self._restart()
                elif target is not None and self._servo(target):
                    self._waiting_since_ns = 0
            except CALL_ERRORS as error:
                self.failure = str(error)
        self._end()

    def _restart(self) -> None:
        self._prepared = False
        self._control.reuploadScript()
        deadline_s = time.monotonic() + _START_S
        while not self._control.isProgramRunning() and time.monotonic() < deadline_s:
            time.sleep(0.002)
        self.restarting = False

    def _servo(self, target: NDArray) -> bool:
        """Returns whether the controller has taken a set point."""
        config, control = self._config, self._control
        if not self._prepared:
            told = config.payload <= 0.0 or control.setPayload(config.payload, list(config.payload_center))
            # Only now: the process may have been busy for long before its first set point.
            self._prepared = told and control.setWatchdog(WATCHDOG_HZ)
        # Speed and acceleration are not used by servoj.
        return self._prepared and bool(
            control.servoJ(target.tolist(), 0.0, 0.0, 1.0 / config.rate_hz, config.lookahead, config.gain)
        )

    def _end(self) -> None:
        if self._control.isConnected() and self._control.isProgramRunning():
            self._control.servoStop(_BRAKING)
            self._control.stopScript()
        self._control.disconnect()
        self.closed.set()
        threading.Event().wait()  # the thread keeps the object: its destructor would wait once more
