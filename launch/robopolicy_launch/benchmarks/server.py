"""A request to the policy server and back, on this machine, beside a WebSocket with its default compression.

The observation is two camera images of 224 x 224 and 16 numbers, the chunk 16 x 7; the policy takes no time.
Each of the three servers runs in a process of its own: ours; one that echoes with permessage-deflate, the
default of the websockets library; and one that echoes without, which is the floor. They take turns of some
requests each: with a single one, what is measured is mostly a process that wakes with cold caches.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.server import ServerConnection, serve
from websockets.sync.client import connect

from robopolicy.serving.configs import ServerConfig
from robopolicy.serving.server import PolicyServer
from robopolicy_datasets.errors import RobopolicyError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.client import RemotePolicy
from robopolicy_drivers.client.wire import pack, unpack
from robopolicy_drivers.interfaces import Observation
from robopolicy_launch.benchmarks import Row
from robopolicy_launch.benchmarks.store import camera_like

CHUNK = (16, 7)
MOST_BYTES = 1 << 24
START_S = 60.0
TURN = 25


def run(*, image: int = 224, requests: int = 400) -> Iterator[Row]:
    """Measures the median time of a request.

    Args:
        image: height and width of the images [px].
        requests: of each kind.
    """
    frames = np.ascontiguousarray(camera_like(2, image))
    observation: dict[str, NDArray] = {
        "camera0_rgb": frames[None, :1],
        "camera1_rgb": frames[None, 1:],
        "robot0_state": np.random.default_rng(0).normal(size=(1, 1, 16)).astype(np.float32),
    }
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(_process(_serve_ours, image))
        raw = stack.enter_context(RemotePolicy(address, images="raw"))
        jpeg = stack.enter_context(RemotePolicy(address, images="jpeg"))
        echoes = [
            stack.enter_context(
                connect(
                    stack.enter_context(_process(_serve_echo, compression)),
                    compression=compression,
                    max_size=MOST_BYTES,
                )
            )
            for compression in ("deflate", None)
        ]

        def ask(echo: Any) -> None:
            echo.send(pack({key: value[0] for key, value in observation.items()}))
            unpack(echo.recv(), most_bytes=MOST_BYTES)

        ours_raw, ours_jpeg, deflate, floor = _medians_ms(
            [
                lambda: raw.infer(observation),
                lambda: jpeg.infer(observation),
                lambda: ask(echoes[0]),
                lambda: ask(echoes[1]),
            ],
            requests,
        )
        yield Row("server_raw", ours_raw, deflate, "ms", "echo with permessage-deflate")
        yield Row("server_jpeg", ours_jpeg, deflate, "ms", "echo with permessage-deflate")
        yield Row("server_raw_floor", ours_raw, floor, "ms", "echo without compression")


class _NullPolicy:
    """Takes no time."""

    observation_steps, action_steps, dt = 1, 8, 0.1

    def __init__(self, image: int) -> None:
        cameras = [
            Feature(key, (image, image, 3), "uint8", kind="rgb") for key in ("camera0_rgb", "camera1_rgb")
        ]
        self.spec = Spec((*cameras, Feature("robot0_state", (16,))), (Feature("action", CHUNK[1:]),))

    def reset(self) -> None:
        pass

    def infer(self, observation: Observation, *, seeds: Sequence[int] | None = None) -> NDArray[np.floating]:
        return np.zeros((len(observation["robot0_state"]), *CHUNK), np.float32)


def _serve_ours(ready: Connection, image: int) -> None:
    config = ServerConfig(port=0, most_requests_hz=1e9, batch_window_s=0.0)
    asyncio.run(PolicyServer(_NullPolicy(image), config).run(ready.send))


def _serve_echo(ready: Connection, compression: str | None) -> None:
    """Does what the shortest server does: decode, answer, in the event loop."""
    chunk = np.zeros(CHUNK, np.float32)

    async def answer(connection: ServerConnection) -> None:
        async for data in connection:
            unpack(bytes(data), most_bytes=MOST_BYTES) if isinstance(data, bytes) else None
            await connection.send(pack({"actions": chunk, "server_timing": {"infer_ms": 0.0}}))

    async def main() -> None:
        async with serve(answer, "127.0.0.1", 0, compression=compression, max_size=MOST_BYTES) as server:
            ready.send(f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}")
            await server.serve_forever()

    asyncio.run(main())


@contextlib.contextmanager
def _process(target: Callable[..., None], argument: Any) -> Iterator[str]:
    """Runs a server in a process of its own; gives its address."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=target, args=(there, argument), daemon=True)
    process.start()
    try:
        if not here.poll(START_S):
            raise RobopolicyError(f"A server did not start within {START_S:g} s.")
        yield here.recv()
    finally:
        process.kill()
        process.join()


def _medians_ms(calls: Sequence[Callable[[], Any]], rounds: int) -> list[float]:
    """Returns the median time [ms] of each call, over at least ``rounds`` calls in turns of ``TURN``."""
    taken: list[list[float]] = [[] for _ in calls]
    while len(taken[-1]) < rounds:
        for call, times in zip(calls, taken, strict=True):
            for _ in range(TURN):
                started = time.perf_counter()
                call()
                times.append(time.perf_counter() - started)
    return [1e3 * statistics.median(times) for times in taken]
