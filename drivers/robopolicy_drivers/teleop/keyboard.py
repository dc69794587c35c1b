"""The keyboard of this computer, through a window of its own that says which key does what."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns
from robopolicy_drivers.realtime.loop import DeadlineLoop
from robopolicy_drivers.teleop.configs import Button, KeyboardConfig
from robopolicy_drivers.teleop.keys import buttons_of, twist_of
from robopolicy_drivers.teleop.steering import PressCounter, Rest, Steering
from robopolicy_drivers.teleop.window import SIZE, Window

RATE_HZ = 50.0
HELP = (
    "The robot moves while keys are held and this window has the focus.",
    "",
    "W S   A D   R F    away, left, up, and back",
    "Q E   Z X   C V    turn, tilt",
    "Shift              slowly",
    "Space              gripper",
    "Tab                the next robot",
    "",
    "T                  begin an episode; take over, hand back",
    "Enter              success: keep it",
    "Backspace          throw it away",
    "Esc                end",
)


class KeyboardSource:
    """Reads the keys, in a process of its own (a ``Source`` of ``hosting.sensor_loop``).

    Args:
        config: of the keyboard; nothing of it matters here.
    """

    def __init__(self, config: KeyboardConfig) -> None:
        self._loop = DeadlineLoop(RATE_HZ)
        self._rest, self._presses = Rest(), PressCounter()
        self._window: Window | None = None

    def open(self) -> None:
        """Shows the window.

        Raises:
            DeviceError: there is no screen.
        """
        self._window = Window("robopolicy: keyboard")
        self._window.show(help_picture())

    def read(self) -> tuple[int, dict[str, NDArray]] | None:
        """Returns what the person wants now; a closed window is the wish to end."""
        self._loop.wait()
        if self._window is None:
            return None
        inputs = self._window.poll()
        down = buttons_of(inputs.held) | ({Button.END} if inputs.closed else set())
        steering = Steering(
            self._rest.admit(twist_of(inputs.held), held=False), True, self._presses.update(down)
        )
        return now_ns(), steering.sample()

    def close(self) -> None:
        """Takes the window away."""
        if self._window is not None:
            self._window.close()
        self._window = None


def help_picture() -> NDArray[np.uint8]:
    """Returns a picture ``[480, 640, 3]`` that says which key does what."""
    width, height = SIZE
    picture = np.full((height, width, 3), 255, np.uint8)
    for line, text in enumerate(HELP):
        for part, column in ((text[:19], 20), (text[19:], 220)) if "  " in text else ((text, 20),):
            place = (column, 40 + 32 * line)
            cv2.putText(picture, part, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (20, 20, 20), 1, cv2.LINE_AA)
    return picture
