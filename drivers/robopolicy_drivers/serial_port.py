"""Opens serial ports for one program alone, and says what to do where one cannot be opened."""

from __future__ import annotations

import errno
import grp
import os
from pathlib import Path
from typing import TYPE_CHECKING

from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.registry import load_target

if TYPE_CHECKING:
    from serial import Serial

_PATTERNS = ("serial/by-id/*", "ttyUSB*", "ttyACM*")
_WRITE_TIMEOUT_S = 0.5
_BUSY = (errno.EAGAIN, errno.EBUSY)


def open_serial(port: str, baudrate: int, timeout_s: float) -> Serial:
    """Opens a port (8 data bits, no parity, 1 stop bit) that no other program has.

    Args:
        port: e.g. ``"/dev/ttyUSB0"``, or better the stable name under ``/dev/serial/by-id``.
        baudrate: [bit/s].
        timeout_s: longest wait of a read [s].

    Raises:
        DeviceError: there is no such port, no permission for it, or another program uses it.
        MissingExtraError: pyserial is not installed.
    """
    make, failure = load_target("serial:Serial"), load_target("serial:SerialException")
    _require_unused(port)
    try:
        opened: Serial = make(
            port, baudrate, timeout=timeout_s, write_timeout=_WRITE_TIMEOUT_S, exclusive=True
        )
    except (failure, OSError) as error:
        raise DeviceError(_explained(port, error)) from error
    opened.reset_input_buffer()
    return opened


def serial_ports() -> list[str]:
    """Returns the serial ports of this computer that a device may hang on."""
    return [str(path) for pattern in _PATTERNS for path in sorted(Path("/dev").glob(pattern))]


def _require_unused(port: str) -> None:
    """Refuses a port that another program has open: not every program locks what it uses."""
    user = _user_of(port)
    if user:
        raise DeviceError(_busy(port, user))


def _explained(port: str, error: OSError) -> str:
    if not Path(port).exists():
        there = ", ".join(serial_ports()) or "none"
        return (
            f"There is no serial port '{port}'; this computer has: {there}. Check the cable and the power of "
            "the device, and give the name of its port."
        )
    if error.errno == errno.EACCES:
        group = grp.getgrgid(os.stat(port).st_gid).gr_name
        return (
            f"No permission to open '{port}', which belongs to the group '{group}'. Join it with: "
            f"sudo usermod -aG {group} $USER, and log in again."
        )
    if error.errno in _BUSY:
        return _busy(port, _user_of(port) or "another program")
    return f"The serial port '{port}' cannot be opened: {error}. Check that it is a serial port."


def _busy(port: str, user: str) -> str:
    return f"The serial port '{port}' is in use by {user}. End that program, or give another port."


def _user_of(port: str) -> str:
    """Returns which other process has a file open; empty where none is known, or it may not be asked."""
    wanted = os.path.realpath(port)
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            if any(os.readlink(entry) == wanted for entry in (process / "fd").iterdir()):
                return f"process {process.name} ({(process / 'comm').read_text().strip()})"
        except OSError:  # it has ended, or belongs to somebody else
            continue
    return ""
