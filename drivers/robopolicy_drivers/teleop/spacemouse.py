"""A SpaceMouse: a puck with six axes and buttons, as its reports say.

Report 1 holds the translation, and on newer models the rotation too; report 2 the rotation of the others;
report 3 one bit for each button. Axes are little-endian int16 from -350 to 350, x to the right, y towards the
person and z down, and about them (report descriptors published at https://andunhh.github.io/spacemouse).
While the puck is at rest nothing is sent.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.teleop.configs import Button, SpaceMouseConfig
from robopolicy_drivers.teleop.hidraw import DEVICES, SYSTEM, HidReports, hid_devices
from robopolicy_drivers.teleop.steering import (
    Array,
    PressCounter,
    Rest,
    Steering,
    without_dead_zone,
)

USAGE = (0x01, 0x08)  # generic desktop, multi-axis controller
FULL = 350.0
RULE = 'KERNEL=="hidraw*", ATTRS{idVendor}=="256f|046d", TAG+="uaccess"'
LONG_PRESS_NS = seconds_to_ns(0.6)
SILENCE_NS = seconds_to_ns(0.2)  # a puck that is not at rest reports some 60 times a second or more
_TURN, _ROTATION, _BUTTONS = 1, 2, 3
_READ_S = 0.02


class PuckState:
    """What the reports so far say.

    Attributes:
        axes: x, y, z, and about them ``[6]``, as shares of the full deflection.
        buttons: bit i is set while button i is down.
    """

    def __init__(self) -> None:
        self.axes: Array = np.zeros(6)
        self.buttons = 0

    def update(self, report: bytes) -> None:
        """Takes a report; what is neither of the three kinds (a battery's state) is passed over.

        Raises:
            DeviceError: it is of one of these kinds, and its length is wrong.
        """
        kind, data = (report[0], report[1:]) if report else (0, b"")
        if kind == _BUTTONS and data:
            self.buttons = int.from_bytes(data, "little")
        elif kind in (_TURN, _ROTATION):
            if not (len(data) == 6 or (len(data) >= 12 and kind == _TURN)):
                raise DeviceError(
                    f"A report {kind} of the SpaceMouse has {len(data)} bytes; 6, or 12 and more, are known "
                    "(see its report descriptor). This model or firmware is not supported."
                )
            first, count = (3, 3) if kind == _ROTATION else (0, min(len(data), 12) // 2)
            self.axes[first : first + count] = np.array(struct.unpack_from(f"<{count}h", data)) / FULL

    @property
    def twist(self) -> Array:
        """Along and about away, left and up ``[6]``, each from -1 to 1."""
        x, y, z, about_x, about_y, about_z = np.clip(self.axes, -1.0, 1.0)
        return np.array([-y, -x, -z, -about_y, -about_x, -about_z])


class PressLengths:
    """Tells short from long presses, so that a puck with two buttons has four.

    Args:
        short: name of the button that a short press of each stands for; it counts when it ends.
        long: the same of a long one; it counts as soon as it is long.
    """

    def __init__(self, short: Sequence[Button], long: Sequence[Button]) -> None:
        self._names = {False: short, True: long}
        self._since: dict[int, int] = {}
        self._ignored: int | None = None

    def update(self, buttons: int, time_ns: int) -> frozenset[Button]:
        """Returns what was pressed just now.

        Args:
            buttons: bit i is set while button i is down; those that are down at first do not count.
            time_ns: now.
        """
        self._ignored = buttons if self._ignored is None else self._ignored & buttons
        pressed: set[Button] = set()
        for number in range(max(map(len, self._names.values()))):
            down = bool((buttons & ~self._ignored) >> number & 1)
            if down:
                self._since.setdefault(number, time_ns)
            since = self._since.get(number)
            long = since is not None and time_ns - since >= LONG_PRESS_NS
            if since is not None and (long or not down):
                names = self._names[long]
                pressed |= set(names[number : number + 1])
                del self._since[number]
                if down:
                    self._ignored |= 1 << number
        return frozenset(pressed)


class SpaceMouseSource:
    """Reads a SpaceMouse, in its own process (a ``Source`` of ``hosting.sensor_loop``).

    Args:
        config: which one, and what its buttons mean.
        system: where the kernel tells of devices.
        devices: where they are opened.
    """

    def __init__(self, config: SpaceMouseConfig, system: Path = SYSTEM, devices: Path = DEVICES) -> None:
        self._config, self._system, self._devices = config, system, devices
        self._reports: HidReports | None = None
        self._puck, self._rest, self._presses = PuckState(), Rest(), PressCounter()
        self._lengths = PressLengths(
            [Button(name) for name in config.buttons], [Button(name) for name in config.long_presses]
        )
        self._reported_ns = 0

    def open(self) -> None:
        """Opens it.

        Raises:
            DeviceError: there is none, or it may not be read; says what to do.
        """
        path = Path(self._config.path) if self._config.path else self._find()
        self._reports = HidReports(path, "SpaceMouse", RULE)

    def read(self) -> tuple[int, dict[str, NDArray]]:
        """Returns what the person wants now; a puck that stops reporting while it is deflected is at rest.

        Raises:
            DeviceError: it was unplugged, or a report is wrong.
        """
        if self._reports is None:
            raise DeviceError("The SpaceMouse is not open; call open() first.")
        report = self._reports.read(_READ_S)
        time_ns = now_ns()
        if report is not None:
            self._puck.update(report)
            self._reported_ns = time_ns
        elif time_ns - self._reported_ns > SILENCE_NS:
            self._puck.axes[:] = 0.0
        twist = without_dead_zone(self._puck.twist, self._config.dead_zone)
        presses = self._presses.update(self._lengths.update(self._puck.buttons, time_ns))
        steering = Steering(self._rest.admit(twist, held=False), True, presses)
        return time_ns, steering.sample()

    def close(self) -> None:
        """Closes it."""
        if self._reports is not None:
            self._reports.close()
        self._reports = None

    def _find(self) -> Path:
        found = list(hid_devices(USAGE, self._system, self._devices))
        if not found:
            raise DeviceError(
                "No SpaceMouse was found among the HID devices of this computer. Plug it in, or its "
                "receiver, and see 'ls /dev/hidraw*'; or give teleop.path=/dev/hidrawN."
            )
        return found[0].path
