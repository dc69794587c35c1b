"""A Franka Hand as a ``GripperLink``.

The hand makes one motion after another and tells the end of each; a new opening waits for it. Only where the
fingers are asked for just where they are, as by a stop of the gate, the motion is stopped. Fingers that are
kept from closing grip what is between them with the force of the config.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from robopolicy_datasets.clock import now_ns, ns_to_seconds
from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.fci import connect, connection_errors, lost, punctual_threads, sdk
from robopolicy_drivers.grippers.franka_hand import STROKE, FrankaHandConfig
from robopolicy_drivers.realtime.scheduling import pin_to_core

if TYPE_CHECKING:
    import franky

_PAUSE_S = 0.005  # between two looks at the hand
_HELD_M = 0.005  # so much wider than asked for: something is between the fingers
_SAME_M = 0.003  # asked for so near to where the fingers go: a motion of its own would hold up the next one
_FAR_M = 0.01  # nearer to where they go, fingers rest before they could be halted
_HALT_M = 0.002  # asked for so near to where the fingers are: they are to halt
_ANSWER_S = 3.0  # that a motion may take besides its way
_JOIN_S = 1.2  # longer than libfranka waits for an answer


class FrankaHandLink:
    """See the module text, and ``GripperLink``. One thread looks at the hand; each motion has one of its own.

    Args:
        config: of the hand.
    """

    def __init__(self, config: FrankaHandConfig) -> None:
        self._config, self._franky, self._broken = config, sdk(), connection_errors()
        self._hand: franky.Gripper | None = None
        self._newest = (0, 0.0)
        self._wanted: float | None = None
        self._going: float | None = None
        self._motion: _Motion | None = None
        self._gripping = False
        self._fault = ""
        self._lost: DeviceError | None = None
        self._deciding = threading.Lock()  # what is wanted is not forgotten in the middle of it
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def open(self) -> None:
        """Connects, and homes the hand where the config says so.

        Raises:
            DeviceError: it cannot be reached, or is not homed; with what to do.
        """
        self._hand = hand = connect(self._franky.Gripper, self._config.host)
        try:
            if self._config.homing and not hand.homing():
                raise DeviceError(f"The {self} was not homed; free its fingers and connect again.")
            self._newest = now_ns(), hand.width
        except self._broken as error:
            raise lost(self._config.host, error) from error
        with punctual_threads():
            self._thread.start()

    def read(self) -> tuple[int, float]:
        """See ``GripperLink``."""
        if self._lost is not None:
            raise self._lost
        return self._newest

    def send(self, width: float) -> None:
        """See ``GripperLink``."""
        self._wanted = width

    def fault(self) -> str:
        """See ``GripperLink``."""
        return self._fault

    def recover(self) -> None:
        """See ``GripperLink``. The fingers stay where they are."""
        with self._deciding:
            self._wanted = self._going = None
            self._fault = ""

    def close(self) -> None:
        """See ``GripperLink``."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)

    def __str__(self) -> str:
        return f"Franka Hand at {self._config.host}"

    def _serve(self) -> None:
        """Looks at the hand and moves it until the link closes or the connection is lost."""
        # Threads of libfranka that wait for answers pass their lock on by yielding, which reaches only those
        # of the same core. They inherit ours; else a stop may wait for the motion that it is to stop.
        pin_to_core()
        hand = self._hand
        while hand is not None and not self._closing.wait(_PAUSE_S):
            try:
                self._newest = now_ns(), hand.width
                if not self._fault:  # else nothing moves until a person releases the stop
                    with self._deciding:
                        self._advance(hand, self._newest[1])
            except self._broken as error:
                self._lost = lost(self._config.host, error)
                return
            except self._franky.CommandException as error:
                self._motion = None
                self._fault = f"The {self} does not move: {error}. Free its fingers, then release the stop."

    def _advance(self, hand: franky.Gripper, width: float) -> None:
        """Begins what is to be done next, given the opening [m] at present."""
        if self._motion is not None:
            if not self._motion.ended():
                self._wait(hand, width)
                return
            self._motion = None
        if self._wanted is not None and self._differs(self._wanted, _SAME_M):
            self._going, self._gripping = self._wanted, False
            self._motion = _Motion(partial(hand.move, self._going, self._config.speed))
        elif self._going is not None and width > self._going + _HELD_M and not self._gripping:
            self._gripping = True
            # Of any width: whatever is there is to be held.
            speed, force = self._config.speed, self._config.force
            self._motion = _Motion(partial(hand.grasp, self._going, speed, force, STROKE, STROKE))

    def _wait(self, hand: franky.Gripper, width: float) -> None:
        """Halts the running motion where that is wanted; notices one that never ends."""
        if (
            self._wanted is not None
            and self._differs(self._wanted, _FAR_M)
            and abs(self._wanted - width) < _HALT_M
        ):
            self._going, self._gripping = self._wanted, True
            self._motion = _Motion(hand.stop)
        elif self._motion is not None and self._motion.age_s() > STROKE / self._config.speed + _ANSWER_S:
            self._fault = f"The {self} does not tell the end of its motion. Close and connect again."

    def _differs(self, width: float, by: float) -> bool:
        """Returns whether an opening is another one than that which the hand goes to [m]."""
        return self._going is None or abs(width - self._going) > by


class _Motion:
    """A motion of the hand, which begins at once, in a thread of its own.

    franky's own futures wait for the motion before, and not every hand tells the end of one that was halted
    (franky-sim does not): such a motion is left to itself.
    """

    def __init__(self, move: Callable[[], bool]) -> None:
        self._move = move
        self._began_ns = now_ns()
        self._error: Exception | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def ended(self) -> bool:
        """Returns whether it has ended; raises what went wrong."""
        if self._ended.is_set() and self._error is not None:
            raise self._error
        return self._ended.is_set()

    def age_s(self) -> float:
        """Returns how long ago it began [s]."""
        return ns_to_seconds(now_ns() - self._began_ns)

    def _run(self) -> None:
        try:
            self._move()
        except Exception as error:  # told to who asks whether it has ended
            self._error = error
        self._ended.set()
