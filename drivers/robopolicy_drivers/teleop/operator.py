"""A person with a teleoperation device who may take a robot over while a policy drives it."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.interfaces import Observation, Teleop
from robopolicy_drivers.teleop.configs import Button

_log = logging.getLogger(__name__)


class TeleopOperator:
    """Drives from one press of take-over to the next (an ``Operator`` of ``runtime.take_over``).

    A device that is lost while it drives leaves the robot where it was last commanded to be; the policy does
    not go on by itself. One that is lost while the policy drives can take over no more, and that is told.

    Args:
        teleop: connected.

    Attributes:
        driving: whether the person drives.
        lost: why the device can be used no more; empty while it can.
    """

    def __init__(self, teleop: Teleop) -> None:
        self._teleop = teleop
        self.lost = ""
        self.begin_episode()

    def begin_episode(self) -> None:
        """Leaves the robot to the policy, and forgets what was decided of the last episode."""
        self.driving = False
        self._decided: Button | None = None
        self._teleop.let_go()

    def command(self, state: Observation, last: NDArray) -> NDArray | None:
        """See ``Operator``."""
        if not self.lost:
            self._poll()
        if not self.driving:
            return None
        return np.array(last) if self.lost else self._teleop.command(state, last)

    @property
    def ended(self) -> bool:
        """Whether the person has ended the episode, or everything."""
        return self._decided is not None

    @property
    def success(self) -> bool:
        """Whether the person has said that the task is done."""
        return self._decided is Button.SUCCESS

    @property
    def wants_the_end(self) -> bool:
        """Whether the person wants no further episode."""
        return self._decided is Button.END

    def _poll(self) -> None:
        try:
            pressed = self._teleop.poll()
        except DeviceError as error:
            self.lost = str(error)
            consequence = "the robot holds" if self.driving else "nobody can take over any more"
            _log.error("Teleoperation was lost, %s: %s", consequence, error)
            return
        if Button.TAKE_OVER in pressed:
            self.driving = not self.driving
            self._teleop.let_go()
        for button in (Button.SUCCESS, Button.DISCARD, Button.END):
            if button in pressed:
                self._decided = button
