"""Whether a UR controller answers at an address, and which one; before anything waits for it without end.

ur_rtde's constructors wait without end for a controller that takes connections and does not answer, and hold
the interpreter meanwhile.
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

from robopolicy_datasets.errors import DeviceError

RTDE_PORT, DASHBOARD_PORT, PROGRAM_PORT = 30004, 29999, 30003
_TIMEOUT_S = 2.0
_HEADER = struct.Struct(">HB")  # size of the whole message, its type
_REQUEST_VERSION, _GET_CONTROLLER = b"Vv"
_TEXT_MESSAGE = ord("M")


class ControllerVersion(NamedTuple):
    """The version of a controller's software."""

    major: int
    minor: int
    bugfix: int
    build: int

    def __str__(self) -> str:
        return ".".join(map(str, self))

    @property
    def is_e_series(self) -> bool:
        """Whether it is newer than a CB3."""
        return self.major >= 5

    @property
    def rate_hz(self) -> float:
        """Set points and states a second."""
        return 500.0 if self.is_e_series else 125.0

    @property
    def has_local_mode(self) -> bool:
        """Whether it tells if it takes programs from the network."""
        return self.is_e_series and self >= (5, 6)

    def model(self, told: str) -> str:
        """Returns the embodiment's name of a model as the dashboard tells it: both generations say "UR5"."""
        name = told.strip().lower().removesuffix("e")
        return f"{name}e" if self.is_e_series else name


def greet(host: str) -> ControllerVersion:
    """Asks a controller for its version.

    Raises:
        DeviceError: nothing answers at one of its ports, what answers is no UR controller, or one that is too
            old or too new.
    """
    for port in (DASHBOARD_PORT, PROGRAM_PORT):
        _connected(host, port).close()
    with _connected(host, RTDE_PORT) as connection:
        if _asked(connection, host, _REQUEST_VERSION, b"\x00\x02") != b"\x01":
            raise DeviceError(
                f"The controller at {host} does not speak version 2 of RTDE; update its PolyScope (3.10 or "
                "newer)."
            )
        answer = _asked(connection, host, _GET_CONTROLLER, b"")
    if len(answer) != 16:
        raise _stranger(host, answer)
    version = ControllerVersion(*struct.unpack(">4I", answer))
    if version.major not in (3, 5):
        raise DeviceError(
            f"The controller at {host} has version {version}; PolyScope 3 (CB3) and 5 (e-Series) are "
            "supported."
        )
    return version


def _connected(host: str, port: int) -> socket.socket:
    try:
        return socket.create_connection((host, port), _TIMEOUT_S)
    except OSError as error:
        raise DeviceError(
            f"Nothing answers at port {port} of {host} ({error}). Is the controller on, its cable plugged "
            "in, its address in this computer's network, and the service enabled (Settings > Security > "
            "Services)?"
        ) from error


def _asked(connection: socket.socket, host: str, kind: int, body: bytes) -> bytes:
    """Returns the body of the answer to a message."""
    try:
        connection.sendall(_HEADER.pack(_HEADER.size + len(body), kind) + body)
        while True:
            header = _received(connection, _HEADER.size)
            size, answered = _HEADER.unpack(header)
            if answered not in (kind, _TEXT_MESSAGE) or size < _HEADER.size:
                raise _stranger(host, header)
            answer = _received(connection, size - _HEADER.size)
            if answered == kind:
                return answer
    except OSError as error:
        raise DeviceError(
            f"Port {RTDE_PORT} of {host} takes connections but does not answer ({error}). Is the controller "
            "still starting, or hung? Restart it."
        ) from error


def _received(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionResetError("it closed the connection")
        data += part
    return data


def _stranger(host: str, answer: bytes) -> DeviceError:
    return DeviceError(
        f"What answers at port {RTDE_PORT} of {host} is no UR controller (it said {answer!r}); check the "
        "address."
    )
