"""Gamepads that SDL itself pretends are there: its virtual joystick, attached to the SDL within pygame."""

import ctypes
import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from robopolicy_drivers.teleop.configs import GamepadConfig
from robopolicy_drivers.teleop.gamepad import GamepadSource
from robopolicy_drivers.teleop.sdl import import_pygame

GAME_CONTROLLER, AXES, BUTTONS = 1, 6, 15


class VirtualPad:
    """Its axes are int16, as SDL's; triggers rest at -32768."""

    def __init__(self):
        pygame = import_pygame("gamepad")
        (library,) = Path(pygame.__file__).parent.parent.glob("pygame.libs/libSDL2-2*")
        self._sdl = ctypes.CDLL(str(library))
        self._sdl.SDL_JoystickOpen.restype = ctypes.c_void_p
        self._sdl.SDL_JoystickSetVirtualAxis.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int16]
        self._sdl.SDL_JoystickSetVirtualButton.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint8]
        pygame.joystick.init()
        self.number = self._sdl.SDL_JoystickAttachVirtual(GAME_CONTROLLER, AXES, BUTTONS, 0)
        assert self.number >= 0
        self._joystick = self._sdl.SDL_JoystickOpen(self.number)
        self.move(*[0] * 4, -32768, -32768)

    def move(self, *axes):
        for number, value in enumerate(axes):
            self._sdl.SDL_JoystickSetVirtualAxis(self._joystick, number, value)

    def hold(self, *buttons):
        for number in range(BUTTONS):
            self._sdl.SDL_JoystickSetVirtualButton(self._joystick, number, number in buttons)

    def unplug(self):
        self._sdl.SDL_JoystickDetachVirtual(self.number)


@dataclass
class VirtualGamepadConfig(GamepadConfig):
    """A pad in the device's process that does what a file says: ``{"axes": [...], "hold": [...]}``."""

    source: ClassVar[str] = "virtual_gamepad:VirtualGamepadSource"

    file: str = ""


class VirtualGamepadSource(GamepadSource):
    """Moves its pad before it reads it."""

    def __init__(self, config):
        super().__init__(config)
        self._file, self._virtual = Path(config.file), None

    def open(self):
        self._virtual = VirtualPad()
        super().open()

    def read(self):
        told = json.loads(self._file.read_text()) if self._file.exists() else {}
        if told.get("unplug"):
            self._virtual.unplug()
        else:
            self._virtual.move(*told.get("axes", []))
            self._virtual.hold(*told.get("hold", []))
        return super().read()
