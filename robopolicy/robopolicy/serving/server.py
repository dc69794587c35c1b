"""The inference server: WebSocket and msgpack in openpi's message order, ``/healthz`` on the same port.

The event loop moves bytes only; decoding and inference happen in the worker's thread. A client that sends
what cannot be used gets an error text and its connection ends; the server and the other connections go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
from collections.abc import Callable

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from robopolicy.serving.access import Access
from robopolicy.serving.configs import ServerConfig
from robopolicy.serving.worker import InferenceWorker, Job, PolicyFailedError
from robopolicy_datasets.errors import ConfigError, RemoteError
from robopolicy_drivers.client.wire import pack
from robopolicy_drivers.interfaces import ChunkPolicy

logger = logging.getLogger(__name__)

STUCK_S = 30.0  # an inference that lasts longer makes /healthz say so
_CLOSE_S = 2.0


class PolicyServer:
    """Serves one policy to any number of robots.

    Args:
        policy: what is served; called from one thread.
        config: where, and within which limits.

    Raises:
        ConfigError: a setting is out of range, or other machines would reach it without token or TLS.
    """

    def __init__(self, policy: ChunkPolicy, config: ServerConfig) -> None:
        _check(config)
        self.config = config
        self._access = Access(config)
        self._worker = InferenceWorker(
            policy, batch_window_s=config.batch_window_s, most_rows=config.most_rows
        )
        self._greeting = pack(self._worker.description.to_message())
        self._robots: set[ServerConnection] = set()

    async def run(self, ready: Callable[[str], None] | None = None) -> None:
        """Serves until it is cancelled.

        Args:
            ready: called with the address, ``ws://host:port``, once connections are taken.

        Raises:
            ConfigError: the address cannot be used.
        """
        config = self.config
        quiet = logging.getLogger(f"{__name__}.websockets")
        quiet.setLevel(logging.CRITICAL)  # it writes a traceback for every broken handshake
        try:
            async with serve(
                self._connected,
                config.host,
                config.port,
                ssl=self._access.tls,
                process_request=self._admit,
                origins=[None],  # a web page in a browser of this machine must not get in
                compression=None,
                max_size=self._worker.description.most_request_bytes,
                max_queue=2,
                open_timeout=config.slow_s,
                ping_interval=config.slow_s,
                ping_timeout=config.slow_s,
                close_timeout=_CLOSE_S,
                logger=quiet,
            ) as server:
                if ready is not None:
                    scheme = "ws" if self._access.tls is None else "wss"
                    port = next(iter(server.sockets)).getsockname()[1]
                    ready(f"{scheme}://{config.host}:{port}")
                await asyncio.get_running_loop().create_future()
        except OSError as error:
            raise ConfigError(
                f"The server cannot listen on {config.host}:{config.port}: {error.strerror or error}. Is "
                "another server running? Choose another port=..."
            ) from error
        finally:
            await asyncio.to_thread(self._worker.close)

    def swap(self, policy: ChunkPolicy) -> int:
        """Serves another policy with the same features, from the next inference on; from any thread.

        Returns:
            the number of its weights; every reply tells which it came from.

        Raises:
            ConfigError: it has other features, steps or dt; the one before goes on.
        """
        return self._worker.swap(policy)

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answers what is no WebSocket of a robot that may come in."""
        if request.path == "/healthz":
            stuck_s = self._worker.stuck_s()
            if stuck_s > STUCK_S:
                return connection.respond(
                    http.HTTPStatus.SERVICE_UNAVAILABLE, f"An inference has run for {stuck_s:.0f} s.\n"
                )
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        if not self._access.allows(request.headers):
            logger.warning("%s refused: no token, or a wrong one", _name(connection))
            return connection.respond(
                http.HTTPStatus.UNAUTHORIZED, "the token is missing or wrong. Give the server's token.\n"
            )
        if len(self._robots) >= self.config.most_connections:
            logger.warning("%s refused: full", _name(connection))
            return connection.respond(
                http.HTTPStatus.SERVICE_UNAVAILABLE,
                f"the server has its {self.config.most_connections} connections (most_connections).\n",
            )
        return None

    async def _connected(self, connection: ServerConnection) -> None:
        """Serves one connection until it ends."""
        self._robots.add(connection)
        self._worker.robots = len(self._robots)
        name, reason = _name(connection), "gone"
        logger.info("%s connected", name)
        try:
            await self._answer_all(connection)
        except ConnectionClosed as closed:
            reason = f"closed ({closed.rcvd.code if closed.rcvd else 'lost'})"
        except RemoteError as error:
            reason = str(error)[:300]
            await self._refuse(connection, error)
        except TimeoutError:
            reason = "too slow, or idle"
            connection.transport.abort()
        finally:
            self._robots.discard(connection)
            self._worker.robots = len(self._robots)
            logger.info("%s ended: %s", name, reason)

    async def _answer_all(self, connection: ServerConnection) -> None:
        config, loop = self.config, asyncio.get_running_loop()
        next_s = 0.0
        await connection.send(self._greeting)
        while True:
            async with asyncio.timeout(config.idle_s):
                data = await connection.recv()
            if isinstance(data, str):
                raise RemoteError("Text came where a msgpack map is needed; send it as a binary message.")
            await asyncio.sleep(max(0.0, next_s - loop.time()))
            next_s = max(next_s, loop.time()) + 1.0 / config.most_requests_hz
            reply = await self._infer(data)
            async with asyncio.timeout(config.slow_s):
                await connection.send(reply)

    async def _infer(self, data: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()

        def settle(result: bytes | RemoteError) -> None:
            if answer.done():  # the connection ended meanwhile
                return
            if isinstance(result, RemoteError):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        def done(result: bytes | RemoteError) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server has ended
                loop.call_soon_threadsafe(settle, result)

        self._worker.submit(Job(data, done))
        return await answer

    async def _refuse(self, connection: ServerConnection, error: RemoteError) -> None:
        """Tells a client what was wrong, and closes its connection."""
        failed = isinstance(error, PolicyFailedError)
        code = CloseCode.INTERNAL_ERROR if failed else CloseCode.POLICY_VIOLATION
        with contextlib.suppress(ConnectionClosed, TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await connection.send(str(error))
                await connection.close(code, "see the message before")


def _name(connection: ServerConnection) -> str:
    address = connection.remote_address
    return f"{address[0]}:{address[1]}" if address else "a client"


def _check(config: ServerConfig) -> None:
    for name in ("most_connections", "most_rows"):
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} is {getattr(config, name)}; give at least 1.")
    for name in ("most_requests_hz", "idle_s", "slow_s"):
        if not getattr(config, name) > 0:
            raise ConfigError(f"{name} is {getattr(config, name)}; give more than 0.")
    if not 0 <= config.port < 1 << 16 or config.batch_window_s < 0:
        raise ConfigError(
            f"port is {config.port} and batch_window_s {config.batch_window_s}; give 0 to 65535, and 0 s "
            "or more."
        )
