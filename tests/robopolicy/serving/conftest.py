"""Server processes, and proxies that spoil what goes through them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.append(str(HERE))


class ServerProcess:
    """A ``policy_server.py`` process."""

    def __init__(self, **config):
        command = [sys.executable, str(HERE / "policy_server.py"), json.dumps(config)]
        # A pipe that nobody reads would fill up and block.
        self.told = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.told, text=True)
        self.address = self.process.stdout.readline().strip()
        assert self.address, self.errors()
        self.port = int(self.address.rpartition(":")[2])

    def alive(self):
        return self.process.poll() is None

    def errors(self):
        self.told.seek(0)
        return self.told.read()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.kill()
        self.process.stdout.close()
        self.told.close()


@pytest.fixture
def serve():
    """``serve(**config)`` starts a server process."""
    with contextlib.ExitStack() as stack:

        def start(**config):
            server = ServerProcess(**config)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture(scope="module")
def lasting():
    """One server for all that a fuzzer thinks of."""
    server = ServerProcess(most_requests_hz=1e6)
    yield server
    server.close()


@pytest.fixture
def proxy():
    """``proxy(handler, port)`` calls ``handler(reader, writer, port)`` for each connection to an address."""
    with contextlib.ExitStack() as stack:

        def start(handler, port):
            loop, ready = asyncio.new_event_loop(), threading.Event()
            found = []

            async def main():
                server = await asyncio.start_server(
                    lambda reader, writer: handler(reader, writer, port), "127.0.0.1", 0
                )
                found.append(server.sockets[0].getsockname()[1])
                ready.set()

            def run():
                loop.run_until_complete(main())
                loop.run_forever()

            thread = threading.Thread(target=run, daemon=True)
            thread.start()
            assert ready.wait(10)

            def stop():
                loop.call_soon_threadsafe(loop.stop)
                thread.join(10)

            stack.callback(stop)
            return f"ws://127.0.0.1:{found[0]}"

        yield start
