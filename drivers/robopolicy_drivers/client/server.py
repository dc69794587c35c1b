"""A policy server as a client sees it: one address, and a connection that is made again when it is lost.

``ServedPolicy`` is what policies behind a server have in common, whatever they say to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from robopolicy_datasets.errors import RemoteError
from robopolicy_drivers.client.connection import Connection, LostError, check_address

LATE = "it did not answer in time"
_PAUSES_S = (0.02, 0.05, 0.1, 0.2)  # before connecting again; the last one repeats
_Result = TypeVar("_Result")


class Server:
    """A server's address, connected to when it is needed and again when that is lost.

    Args:
        address: ``ws://host:port``, or ``wss://host:port`` for TLS.
        authorization: value of the HTTP header of that name; empty for none.
        certificate: file with the server's certificate, where no authority has signed it.

    Raises:
        ConfigError: the address is none, or the authorization would travel in clear.
    """

    def __init__(self, address: str, *, authorization: str = "", certificate: str = "") -> None:
        check_address(address, secret=bool(authorization))
        self.address = address
        self._authorization, self._certificate = authorization, certificate
        self._connection: Connection | None = None

    def ask(self, exchange: Callable[[Connection, float], _Result], timeout_s: float) -> _Result:
        """Calls ``exchange(connection, until_s)``, again after each lost connection while there is time.

        Raises:
            RemoteError: no answer in time, or the server refuses.
        """
        until, tries, reasons = time.monotonic() + timeout_s, 0, [LATE]
        try:
            while (left := until - time.monotonic()) > 0:
                try:
                    return exchange(self._connected(left), until)
                except LostError as lost:
                    reasons = [str(lost)]
                    self.close()
                pause = _PAUSES_S[min(tries, len(_PAUSES_S) - 1)]
                time.sleep(max(0.0, min(pause, until - time.monotonic())))
                tries += 1
        except TimeoutError:
            reasons = [*filter(LATE.__ne__, reasons), LATE]
        except BaseException:
            self.close()  # an answer may still come; it must not be taken for the next one
            raise
        self.close()
        raise RemoteError(
            f"The policy server at {self.address} gave no answer within {timeout_s:g} s: "
            f"{', then '.join(reasons)}. Check that it runs and that the network reaches it."
        )

    def _connected(self, timeout_s: float) -> Connection:
        if self._connection is None:
            self._connection = Connection(
                self.address,
                authorization=self._authorization,
                certificate=self._certificate,
                timeout_s=timeout_s,
            )
        return self._connection

    def close(self) -> None:
        """Closes the connection; the next ``ask`` makes a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class ServedPolicy:
    """A policy behind a server, whose connection it closes at the end of a ``with`` statement.

    Args:
        server: that it asks.

    Attributes:
        timing: of the newest chunk: ``round_trip_ms`` and what the server told [ms].
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self.timing: dict[str, float] = {}

    def reset(self) -> None:
        """Does nothing: every request holds all that the policy sees."""

    def close(self) -> None:
        """Closes the connection."""
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _note_timing(self, began_s: float, reply: Mapping[str, Any]) -> None:
        """Notes how long an answer took since ``began_s`` [time.monotonic], and what it tells of that."""
        told = reply.get("server_timing")
        self.timing = {"round_trip_ms": 1e3 * (time.monotonic() - began_s)}
        if isinstance(told, Mapping):
            self.timing |= {str(name): float(ms) for name, ms in told.items() if isinstance(ms, int | float)}
