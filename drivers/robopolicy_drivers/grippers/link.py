"""What a vendor's protocol must do to be a gripper; it runs in the device's own process."""

from __future__ import annotations

from typing import Protocol


class GripperLink(Protocol):
    """The connection to one gripper, made from its config: ``Link(config)``.

    All methods are called from one thread, at every tick of the control loop, and none but ``open``,
    ``recover`` and ``close`` waits: where the vendor's calls block, they belong into a thread of the link.
    """

    def open(self) -> None:
        """Connects and makes the gripper ready to move.

        Raises:
            DeviceError: it is not there, busy, or refuses; the text says what to do.
        """

    def read(self) -> tuple[int, float]:
        """Returns when the newest opening was measured [ns, monotonic], and the opening [m]."""

    def send(self, width: float) -> None:
        """Asks for an opening [m], with the speed and force of the config; called when it changes."""

    def fault(self) -> str:
        """Returns why the gripper does not follow; empty while it does."""

    def recover(self) -> None:
        """Makes the gripper ready again after a fault; called when a person releases the stop.

        Raises:
            DeviceError: the fault is still there; the text says what to do.
        """

    def close(self) -> None:
        """Disconnects, however far ``open`` came; the gripper keeps its grip."""
