"""What a vendor's protocol must do, for ``arm`` to make a guarded robot of it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from numpy.typing import NDArray


class ArmReading(NamedTuple):
    """What an arm measures.

    Attributes:
        time_ns: when [ns, monotonic].
        positions: of the joints ``[J]`` [rad].
        velocities: of the joints ``[J]`` [rad/s].
        wrench: force and torque at the tool center point, in the frame of the base ``[6]`` [N, N m]; of an
            arm that measures none, None.
    """

    time_ns: int
    positions: NDArray
    velocities: NDArray
    wrench: NDArray | None = None


class ArmLink(Protocol):
    """A connection to an arm, in the process that owns it. It is built with the arm's config alone.

    All of it raises DeviceError where the arm cannot be used any more, with what to do; the process then
    ends, so what the arm does by itself when nobody streams is its last safe action.
    """

    def open(self) -> None:
        """Connects and makes the arm ready to follow set points; it does not move."""

    def read(self) -> ArmReading:
        """Returns the newest reading; does not wait for longer than a tick."""

    def send(self, positions: NDArray) -> None:
        """Sends the joint positions ``[J]`` [rad] of this tick; does not wait."""

    def fault(self) -> str:
        """Returns why the arm does not follow, with what to do; empty while it does.

        For what a person can mend without connecting again: a reflex, a protective stop, a pressed
        emergency stop, another controller.
        """

    def recover(self) -> None:
        """Makes the arm follow again after a fault; called when a person releases the stop.

        Raises:
            DeviceError: the cause is still there; with what to do.
        """

    def close(self) -> None:
        """Stops streaming and disconnects, however far ``open`` came."""
