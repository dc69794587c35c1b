"""Our own emulator of a UR controller on an address of its own, and two small clients of such controllers."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import struct

from emulated import Emulated

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_drivers.arms.ur import UrConfig
from robopolicy_drivers.arms.ur_greeting import DASHBOARD_PORT, RTDE_PORT
from robopolicy_drivers.arms.ur_link import UrLink

_numbers = itertools.count(1)


def free_host() -> str:
    """Returns an address of this computer that no other process of the tests uses."""
    pid = os.getpid()
    return f"127.{20 + (pid >> 8) % 200}.{pid % 256}.{1 + next(_numbers) % 250}"


class EmulatedUr(Emulated):
    """A running controller.

    Args:
        options: of ``ur_controller.py``, without their dashes.

    Attributes:
        host: its address.
    """

    def __init__(self, **options: object) -> None:
        self.host = free_host()
        given = [(f"--{name.replace('_', '-')}", value) for name, value in options.items()]
        super().__init__("ur_controller", "--host", self.host, *itertools.chain(*given))

    def asked(self, question: str) -> str:
        """Returns the dashboard's answer."""
        with (
            socket.create_connection((self.host, DASHBOARD_PORT)) as connection,
            connection.makefile("rw") as file,
        ):
            file.readline()
            file.write(f"{question}\n")
            file.flush()
            return file.readline().strip()


class RtdeClient:
    """The smallest RTDE client, beside ur_rtde's: it claims inputs and reads outputs."""

    def __init__(self, host):
        self.host = host

    def __enter__(self):
        self.socket = socket.create_connection((self.host, RTDE_PORT), 5.0)
        assert self.ask("V", b"\x00\x02") == b"\x01"
        return self

    def __exit__(self, *error):
        self.socket.close()

    def ask(self, kind, body):
        self.socket.sendall(struct.pack(">HB", 3 + len(body), ord(kind)) + body)
        while (answer := self.message())[0] != ord(kind):  # what was still being sent
            pass
        return answer[1]

    def message(self):
        size, kind = struct.unpack(">HB", self.socket.recv(3, socket.MSG_WAITALL))
        return kind, self.socket.recv(size - 3, socket.MSG_WAITALL) if size > 3 else b""

    def claim(self, name):
        return self.ask("I", name.encode())

    def outputs(self, name):
        self.ask("O", struct.pack(">d", 125.0) + name.encode())
        self.ask("S", b"")
        body = self.message()[1]
        self.ask("P", b"")
        return struct.unpack(f">{(len(body) - 1) // 8}d", body[1:])


def open_link(host: str, **settings: object) -> None:
    """Opens the link of an arm in this process, for what is refused."""
    with contextlib.closing(UrLink(UrConfig(host=host, **settings))) as link:
        link.open()


def soon(seconds: float = 0.02) -> int:
    """Returns a time that is so far ahead [ns, monotonic]."""
    return now_ns() + seconds_to_ns(seconds)
