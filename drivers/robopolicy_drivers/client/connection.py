"""One connection to a policy server, and what its failures mean."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import struct
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.frames import CloseCode
from websockets.sync.client import connect

from robopolicy_datasets.errors import ConfigError, RemoteError
from robopolicy_drivers.client.messages import MOST_REPLY_BYTES
from robopolicy_drivers.client.wire import unpack

_CLOSE_S = 0.5  # for the closing handshake
_FULL, _REFUSED = 503, (401, 403)


class LostError(Exception):
    """The connection does not work now and may work again; its text says why."""


class Connection:
    """An open connection that has received the server's first message.

    Args:
        address: ``ws://host:port`` or ``wss://host:port``.
        authorization: value of the HTTP header of that name; empty for none.
        certificate: file with the certificate to trust; empty for the system's authorities.
        timeout_s: longest time to connect [s].

    Attributes:
        metadata: the server's first message.

    Raises:
        TimeoutError: the server does not answer.
        LostError: there is no server, or it is full.
        RemoteError: the server refuses us, or does not speak this protocol.
    """

    def __init__(self, address: str, *, authorization: str, certificate: str, timeout_s: float) -> None:
        self._resources = contextlib.ExitStack()
        ends = time.monotonic() + timeout_s
        try:
            self._socket = self._resources.enter_context(
                connect(
                    address,
                    compression=None,
                    max_size=MOST_REPLY_BYTES,
                    proxy=None,
                    ssl=_trust(certificate) if address.startswith("wss:") else None,
                    additional_headers={"Authorization": authorization} if authorization else None,
                    open_timeout=timeout_s,
                    close_timeout=_CLOSE_S,
                )
            )
            self.metadata = self.receive(ends)
        except BaseException as error:
            self.close()
            raise _explained(error, address) from error

    def send(self, data: bytes, until_s: float) -> None:
        """Sends a message.

        Raises:
            TimeoutError: the connection takes nothing until ``until_s`` [time.monotonic].
            LostError: it is lost.
            RemoteError: the server found a message too large.
        """
        try:
            # The kernel's own time-out: the other side may have stopped reading with its buffers full.
            left = max(until_s - time.monotonic(), 0.001)
            limit = struct.pack("@ll", int(left), int(left % 1 * 1e6))
            self._socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            self._socket.send(data)
        except (OSError, WebSocketException) as error:
            if time.monotonic() >= until_s:
                raise TimeoutError from error
            raise _failure(error) from error

    def receive(self, until_s: float) -> dict[str, Any]:
        """Returns the next message that arrives before ``until_s`` [time.monotonic].

        Raises:
            TimeoutError: none did.
            LostError: the connection is lost.
            RemoteError: the server says what went wrong, or sends what cannot be read.
        """
        try:
            data = self._socket.recv(timeout=max(until_s - time.monotonic(), 0.0))
        except TimeoutError:
            raise
        except (OSError, WebSocketException) as error:
            raise _failure(error) from error
        if isinstance(data, str):
            raise RemoteError(f"The policy server says: {data.strip()[-600:]}")
        return unpack(data, most_bytes=MOST_REPLY_BYTES)

    def close(self) -> None:
        """Closes the connection, within a second even if the other side is gone."""
        with contextlib.suppress(OSError, WebSocketException):
            self._resources.close()


def check_address(address: str, *, secret: bool) -> None:
    """Checks the address of a server.

    Args:
        address: what was given.
        secret: whether a token is sent there.

    Raises:
        ConfigError: it is none, or the token would travel in clear.
    """
    parts = urlsplit(address)
    try:
        fits = parts.scheme in ("ws", "wss") and parts.hostname and parts.port is not None
    except ValueError:
        fits = False
    if not fits:
        raise ConfigError(
            f"'{address}' is no address of a policy server; give ws://127.0.0.1:8000, or wss://host:port."
        )
    if secret and parts.scheme == "ws" and not is_loopback(parts.hostname or ""):
        raise ConfigError(f"The token would travel in clear to {address}; use wss:// (TLS), or no token.")


def is_loopback(host: str) -> bool:
    """Tells whether a host name or address means this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _trust(certificate: str) -> ssl.SSLContext:
    if certificate and not Path(certificate).is_file():
        raise ConfigError(f"The certificate '{certificate}' is no file. Copy the server's certificate here.")
    try:
        return ssl.create_default_context(cafile=certificate or None)
    except ssl.SSLError as error:
        raise ConfigError(f"'{certificate}' is no certificate (PEM) that can be read: {error}.") from error


def _explained(error: BaseException, address: str) -> BaseException:
    """Returns what a failure to connect means."""
    if isinstance(error, InvalidStatus):
        status, body = error.response.status_code, error.response.body.decode(errors="replace").strip()
        if status == _FULL:
            return LostError(f"it answered: {body}")
        if status in _REFUSED:
            return RemoteError(f"The policy server at {address} refuses this client: {body[:300]}")
        return RemoteError(f"What answers at {address} is no policy server (HTTP status {status}).")
    if isinstance(error, ssl.SSLCertVerificationError):
        return RemoteError(
            f"The certificate of {address} is not trusted: {error.verify_message}. Give the server's "
            "certificate file, and connect to a name that it is made for."
        )
    if isinstance(error, TimeoutError) or not isinstance(error, OSError | WebSocketException):
        return error
    return _failure(error)


def _failure(error: Exception) -> LostError | RemoteError:
    """Returns what the end of a connection means; a message that is too large will never be taken."""
    if isinstance(error, ConnectionClosed) and error.rcvd and error.rcvd.code == CloseCode.MESSAGE_TOO_BIG:
        return RemoteError(
            f"The policy server refuses the observation, which is too large for it: {error.rcvd}."
        )
    return LostError(_reason(error))


def _reason(error: Exception) -> str:
    if isinstance(error, ConnectionClosed):
        closing = error.rcvd
        return (
            "the connection broke"
            if closing is None
            else f"it closed the connection ({closing.reason or closing.code})"
        )
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    return f"{type(error).__name__}: {error}".rstrip(".")
