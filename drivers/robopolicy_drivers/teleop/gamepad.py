"""A gamepad, through SDL (pygame), which knows the layouts of several hundred of them.

Buttons and sticks are named as on an Xbox pad, by where they are, whatever is printed on them.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.realtime.loop import DeadlineLoop
from robopolicy_drivers.teleop.configs import Button, GamepadConfig
from robopolicy_drivers.teleop.keys import SLOW
from robopolicy_drivers.teleop.sdl import import_pygame
from robopolicy_drivers.teleop.steering import (
    Array,
    PressCounter,
    Rest,
    Steering,
    without_dead_zone,
)

RATE_HZ = 100.0
FULL = 32767.0

# As SDL numbers them (SDL_GameControllerAxis, SDL_GameControllerButton).
LEFT_X, LEFT_Y, RIGHT_X, RIGHT_Y, LEFT_TRIGGER, RIGHT_TRIGGER = range(6)
A, B, X, Y, BACK, _, START, _, _, LEFT_SHOULDER, RIGHT_SHOULDER, _, _, PAD_LEFT, PAD_RIGHT = range(15)
BUTTON_OF = {
    A: Button.GRIPPER,
    START: Button.TAKE_OVER,
    Y: Button.SUCCESS,
    B: Button.DISCARD,
    BACK: Button.END,
    X: Button.NEXT,
}


def twist_of(axes: Array, down: frozenset[int], dead_zone: float) -> Array:
    """Returns what sticks, triggers and the cross ask for ``[6]``, see ``Steering``.

    Args:
        axes: left stick to the right and down, right stick likewise, from -1 to 1; left and right trigger,
            from 0 to 1 ``[6]``.
        down: numbers of the buttons that are down.
        dead_zone: of the sticks and triggers.
    """
    left_x, left_y, right_x, right_y, lower, raise_ = without_dead_zone(axes, dead_zone)
    tilt = float(PAD_RIGHT in down) - float(PAD_LEFT in down)
    twist = np.array([-left_y, -left_x, raise_ - lower, tilt, -right_y, -right_x])
    return twist * (SLOW if RIGHT_SHOULDER in down else 1.0)


class GamepadSource:
    """Reads a gamepad, in its own process (a ``Source`` of ``hosting.sensor_loop``).

    Args:
        config: which one.
    """

    def __init__(self, config: GamepadConfig) -> None:
        self._config = config
        self._loop = DeadlineLoop(RATE_HZ)
        self._rest, self._presses = Rest(), PressCounter()
        self._pygame: Any = None
        self._pad: Any = None

    def open(self) -> None:
        """Opens it.

        Raises:
            MissingExtraError: pygame is not installed.
            DeviceError: there is none; says what to do.
        """
        # Nothing is shown, and SDL would else report only what happens while a window of ours has the focus.
        os.environ["SDL_VIDEODRIVER"] = "dummy"
        os.environ["SDL_JOYSTICK_ALLOW_BACKGROUND_EVENTS"] = "1"
        self._pygame = import_pygame("gamepad")
        controller = importlib.import_module("pygame._sdl2.controller")
        self._pygame.display.init()
        controller.init()
        names = [controller.name_forindex(number) for number in range(controller.get_count())]
        if self._config.number >= len(names):
            raise DeviceError(
                f"teleop.number={self._config.number} is not there; SDL finds {len(names)} gamepads"
                f"{': ' if names else ''}{', '.join(map(str, names))}. Plug it in or pair it, and see that "
                "you may read it: 'ls -l /dev/input/event*' (a user at the screen may; over SSH add yourself "
                "to the group input: sudo usermod -aG input $USER, and log in again)."
            )
        if not controller.is_controller(self._config.number):
            raise DeviceError(
                f"SDL knows no layout of '{names[self._config.number]}'. Give one in the environment "
                "variable SDL_GAMECONTROLLERCONFIG (https://github.com/mdqinc/SDL_GameControllerDB)."
            )
        self._pad = controller.Controller(self._config.number)

    def read(self) -> tuple[int, dict[str, NDArray]]:
        """Returns what the person wants now.

        Raises:
            DeviceError: it was unplugged.
        """
        self._loop.wait()
        # SDL takes in what has happened; the list of events is of no use, and pygame 2.6 fails to build it
        # when a pad is unplugged.
        self._pygame.event.clear()
        if not self._pad.attached():
            raise DeviceError("The gamepad was unplugged, or its battery is empty. Begin again.")
        down = frozenset(number for number in range(15) if self._pad.get_button(number))
        axes = np.array([self._pad.get_axis(axis) for axis in range(6)]) / FULL
        twist = twist_of(axes, down, self._config.dead_zone)
        held = LEFT_SHOULDER in down
        steering = Steering(
            self._rest.admit(twist, held=held),
            held and self._rest.seen,
            self._presses.update({BUTTON_OF[number] for number in down if number in BUTTON_OF}),
        )
        return now_ns(), steering.sample()

    def close(self) -> None:
        """Closes it."""
        if self._pad is not None:
            self._pad.quit()
        if self._pygame is not None:
            self._pygame.quit()
        self._pad = self._pygame = None
