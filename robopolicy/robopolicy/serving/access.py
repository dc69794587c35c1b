"""Who may connect to a server, and over what."""

from __future__ import annotations

import hmac
import ssl
from pathlib import Path

from websockets.datastructures import Headers

from robopolicy.serving.configs import ServerConfig
from robopolicy_datasets.errors import ConfigError
from robopolicy_drivers.client.connection import is_loopback
from robopolicy_drivers.client.token import read_token


class Access:
    """The token and the certificate of a server.

    Args:
        config: of the server.

    Attributes:
        tls: what encrypts the connections; None where there is no certificate.

    Raises:
        ConfigError: a file cannot be used, or other machines would reach a server without token or TLS.
    """

    def __init__(self, config: ServerConfig) -> None:
        if not is_loopback(config.host) and not (config.token_file and config.certificate and config.key):
            raise ConfigError(
                f"host={config.host} can be reached from other machines: anyone there could use the policy "
                "and read along. Give token_file, certificate and key too, or host=127.0.0.1."
            )
        if bool(config.certificate) != bool(config.key):
            raise ConfigError("certificate and key belong together; give both, or none.")
        self._token = read_token(config.token_file).encode()
        self.tls = _tls(config) if config.certificate else None

    def allows(self, headers: Headers) -> bool:
        """Tells whether a request has the token: ``Authorization: Bearer``, or openpi's ``Api-Key``."""
        if not self._token:
            return True
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        known = scheme.lower() in ("bearer", "api-key")
        return hmac.compare_digest(token.strip().encode(errors="replace"), self._token) and known


def _tls(config: ServerConfig) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(Path(config.certificate).expanduser(), Path(config.key).expanduser())
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"Certificate '{config.certificate}' and key '{config.key}' cannot be used: {error}. Both are "
            "PEM files, and the key is not encrypted."
        ) from error
    return context
