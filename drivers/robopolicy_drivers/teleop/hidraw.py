"""Raw reports of a HID device from the Linux kernel (``/dev/hidraw*``); no library is needed for that.

A report is what one ``read`` returns. Devices are found by what their report descriptor says that they are,
not by a list of products ("Device Class Definition for HID" 1.11, section 6.2.2; "HID Usage Tables").
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from robopolicy_datasets.errors import DeviceError

SYSTEM = Path("/sys/class/hidraw")
DEVICES = Path("/dev")
REPORT_BYTES = 64
_USAGE_PAGE, _USAGE = 0x05, 0x09  # items with one byte of data


@dataclass(frozen=True)
class HidDevice:
    """A device that the kernel knows.

    Attributes:
        path: to be opened, e.g. ``/dev/hidraw0``.
        name: that it gives itself.
        vendor: its USB vendor.
        product: its USB product.
    """

    path: Path
    name: str
    vendor: int
    product: int


def hid_devices(
    usage: tuple[int, int], system: Path = SYSTEM, devices: Path = DEVICES
) -> Iterator[HidDevice]:
    """Yields the devices whose first collection is of a usage.

    Args:
        usage: page and usage, e.g. ``(1, 8)``: generic desktop, multi-axis controller.
        system: where the kernel tells of them.
        devices: where they are opened.
    """
    for entry in sorted(system.glob("hidraw*")):
        try:
            descriptor = (entry / "device" / "report_descriptor").read_bytes()
            lines = (entry / "device" / "uevent").read_text().splitlines()
        except OSError:  # it was unplugged meanwhile
            continue
        told = dict(line.split("=", 1) for line in lines if "=" in line)
        numbers = told.get("HID_ID", "0:0:0").split(":")
        if first_usage(descriptor) == usage and len(numbers) == 3:
            vendor, product = (int(number, 16) for number in numbers[1:])
            yield HidDevice(devices / entry.name, told.get("HID_NAME", entry.name), vendor, product)


def first_usage(descriptor: bytes) -> tuple[int, int] | None:
    """Returns page and usage of the first collection in a report descriptor; None where they are not told."""
    if len(descriptor) < 4 or descriptor[0] != _USAGE_PAGE or descriptor[2] != _USAGE:
        return None
    return descriptor[1], descriptor[3]


class HidReports:
    """Reads the reports of an open device.

    Args:
        path: of the device.
        name: for messages.
        rule: of udev that lets a user read it, for the message where that is forbidden.

    Raises:
        DeviceError: it cannot be opened; says what to do.
    """

    def __init__(self, path: Path, name: str, rule: str) -> None:
        self._name = name
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            self._explain(path, rule, error)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def read(self, timeout_s: float) -> bytes | None:
        """Returns the next report; None where none comes in time.

        Raises:
            DeviceError: the device is gone.
        """
        if not self._poll.poll(1e3 * timeout_s):
            return None
        try:
            report = os.read(self._descriptor, REPORT_BYTES)
        except OSError as error:
            raise self._gone(os.strerror(error.errno or 0)) from error
        if not report:
            raise self._gone("its end was reached")
        return report

    def close(self) -> None:
        """Closes the device."""
        os.close(self._descriptor)

    def _gone(self, reason: str) -> DeviceError:
        return DeviceError(f"The {self._name} was unplugged ({reason}). Plug it in and begin again.")

    @staticmethod
    def _explain(path: Path, rule: str, error: OSError) -> NoReturn:
        if error.errno not in (errno.EACCES, errno.EPERM):
            raise DeviceError(
                f"{path} cannot be opened ({os.strerror(error.errno or 0)}). Plug the device in again."
            ) from error
        raise DeviceError(
            f"You may not read {path}. Write this line to /etc/udev/rules.d/70-robopolicy.rules, run "
            f"'sudo udevadm control --reload' and plug the device in again: {rule}"
        ) from error
