"""Own emulator of what Linux shows of a SpaceMouse: its place in /sys, and a hidraw file that gives reports.

The file is a named pipe in packet mode, so that one read returns one report, as from the kernel.
"""

import array
import fcntl
import os
import struct
import termios
import time

# The beginning of the published report descriptor: generic desktop, multi-axis controller.
DESCRIPTOR = bytes.fromhex("05010908a101a100850116a2fe265e0136")
KEYBOARD = bytes.fromhex("05010906a1018501")


class HidPuck:
    """``path`` is the device; ``system`` and ``devices`` stand for /sys/class/hidraw and /dev."""

    def __init__(self, folder, number=1, descriptor=DESCRIPTOR):
        self.system, self.devices = folder / "sys", folder / "dev"
        device = self.system / f"hidraw{number}" / "device"
        device.mkdir(parents=True)
        self.devices.mkdir(exist_ok=True)
        (device / "uevent").write_text("HID_ID=0003:0000256F:0000C62E\nHID_NAME=3Dconnexion SpaceMouse\n")
        (device / "report_descriptor").write_bytes(descriptor)
        self.path = self.devices / f"hidraw{number}"
        os.mkfifo(self.path)
        self._pipe = os.open(self.path, os.O_RDWR)
        fcntl.fcntl(self._pipe, fcntl.F_SETFL, os.O_DIRECT)

    def report(self, *values):
        os.write(self._pipe, bytes(values))

    def move(self, *axes, number=1):
        """One report of int16 axes: six with both parts, or three of report ``number``."""
        self.report(number, *struct.pack(f"<{len(axes)}h", *axes))

    def push(self, *axes, seconds):
        """Pushes the puck for a time, with 60 reports a second, and lets go of it."""
        for _ in range(round(60 * seconds)):
            self.move(*axes)
            time.sleep(1 / 60)
        self.move(*[0] * len(axes))

    def press(self, button, seconds=0.1):
        self.report(3, 1 << button, 0)
        self.wait_until_read()
        time.sleep(seconds)
        self.report(3, 0, 0)  # may be read by nobody: what it was pressed for may have ended

    def waiting(self):
        """Whether there are reports that nobody has read."""
        waiting = array.array("i", [0])
        fcntl.ioctl(self._pipe, termios.FIONREAD, waiting)
        return waiting[0] > 0

    def wait_until_read(self, patience_s=60.0):
        """Waits until somebody has read all reports."""
        end = time.monotonic() + patience_s
        while self.waiting():
            assert time.monotonic() < end, "nobody reads the reports"
            time.sleep(0.005)

    def unplug(self):
        if self._pipe is not None:
            os.close(self._pipe)
        self._pipe = None
