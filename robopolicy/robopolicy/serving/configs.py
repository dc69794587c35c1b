"""Settings of the inference server; this module imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ServerConfig:
    """Where a server listens and what it lets a client do.

    Attributes:
        host: address to listen on; one that other machines reach needs a token, certificate and key.
        port: TCP port; 0 takes a free one.
        token_file: file with the token that clients must know, one line; empty for none.
        certificate: file with the TLS certificate (PEM); empty for no TLS.
        key: file with the certificate's private key (PEM).
        most_connections: robots at the same time; further ones are refused.
        most_requests_hz: chunks per second of one connection; faster ones wait.
        batch_window_s: how long a request waits for those of the other connected robots [s].
        most_rows: requests in one inference.
        idle_s: a connection without a request for so long is closed [s].
        slow_s: time for a handshake, for taking a reply, and for answering a ping [s].
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token_file: str = ""
    certificate: str = ""
    key: str = ""
    most_connections: int = 16
    most_requests_hz: float = 100.0
    batch_window_s: float = 0.002
    most_rows: int = 16
    idle_s: float = 600.0
    slow_s: float = 10.0
