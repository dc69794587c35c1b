"""A window on the screen that shows pictures and says which keys are held. SDL draws it, without OpenGL.

SDL reports when a key goes down and when it comes up, and not the repeats of the keyboard; MuJoCo's passive
viewer and OpenCV tell no releases. Without OpenGL, nothing gets in the way of the off-screen renderer's.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.teleop.sdl import import_pygame

SIZE = (640, 480)  # [px] width and height of the pictures
NO_SCREEN = ("offscreen", "dummy")  # what SDL falls back to


@dataclass(frozen=True)
class Inputs:
    """What a person did since the last time.

    Attributes:
        held: names of the keys that were down at some time.
        pressed: those of them that went down.
        drag: how far the mouse was dragged with the left button, to the right and down [heights of the
            picture].
        closed: whether the window was closed, now or before, or Escape pressed.
    """

    held: frozenset[str]
    pressed: frozenset[str]
    drag: tuple[float, float]
    closed: bool


class Window:
    """The window. Use it in the main thread.

    Args:
        title: of the window.

    Raises:
        MissingExtraError: pygame is not installed.
        DeviceError: there is no screen.
    """

    def __init__(self, title: str) -> None:
        _require_display()
        if sys.platform == "linux" and "DISPLAY" in os.environ:
            # SDL would make a GLX context to draw with, which X refuses beside MuJoCo's EGL context.
            os.environ.setdefault("SDL_FRAMEBUFFER_ACCELERATION", "0")
        self._pygame = import_pygame("keyboard")
        try:
            self._pygame.display.init()
            driver = self._pygame.display.get_driver()
            if driver in NO_SCREEN:
                raise _no_screen(f"SDL found only its driver '{driver}'")
            self._surface = self._pygame.display.set_mode(SIZE)
        except self._pygame.error as error:
            raise _no_screen(str(error)) from error
        self._pygame.display.set_caption(title)
        self._pygame.key.stop_text_input()
        self._down: set[str] = set()
        self._closed = False

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Shows an RGB image ``[480, 640, 3]``."""
        self._pygame.surfarray.blit_array(self._surface, picture.swapaxes(0, 1))
        self._pygame.display.flip()

    def poll(self) -> Inputs:
        """Returns what the person did since the last call; a short tap is never missed."""
        pygame = self._pygame
        pressed: set[str] = set()
        held = set(self._down)
        drag = np.zeros(2)
        for event in pygame.event.get():
            if event.type == pygame.KEYDOWN:
                pressed.add(pygame.key.name(event.key))
                self._down.add(pygame.key.name(event.key))
            elif event.type == pygame.KEYUP:
                self._down.discard(pygame.key.name(event.key))
            elif event.type == pygame.MOUSEMOTION and event.buttons[0]:
                drag += np.array(event.rel) / SIZE[1]
            elif event.type == pygame.QUIT:
                self._closed = True
        self._closed |= "escape" in pressed
        return Inputs(
            frozenset(held | pressed), frozenset(pressed), (float(drag[0]), float(drag[1])), self._closed
        )

    def close(self) -> None:
        """Takes the window away."""
        self._pygame.display.quit()


def _require_display() -> None:
    """SDL would otherwise look for a console of its own, or draw into nothing."""
    if sys.platform == "linux" and not any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY"))):
        raise _no_screen("neither DISPLAY nor WAYLAND_DISPLAY is set")


def _no_screen(reason: str) -> DeviceError:
    return DeviceError(
        f"teleop=keyboard needs a screen to show the task on, and there is none: {reason}. Run it where "
        "there is one, set DISPLAY to a running X server (over SSH: ssh -X), or take teleop=scripted."
    )
