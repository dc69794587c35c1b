"""Serves a policy to robots, until it is interrupted.

A robot's computer connects with 'robopolicy deploy server=ws://...' and needs no torch. New weights in the
checkpoint's folder are taken over between two chunks. http://HOST:PORT/healthz tells whether it is well.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import MISSING, DictConfig

from robopolicy.serving.configs import ServerConfig
from robopolicy_launch import console

if TYPE_CHECKING:
    from robopolicy.serving.loading import Watcher
    from robopolicy.serving.server import PolicyServer

GROUPS: dict[str, str | None] = {}
POSITIONAL = ("checkpoint",)


@dataclass
class Settings(ServerConfig):
    """Settings of ``robopolicy serve``.

    Attributes:
        checkpoint: a checkpoint folder, or the run folder of a training.
        device: torch device: cpu, cuda, or auto for a GPU where there is one.
        threads: of torch on the CPU.
    """

    checkpoint: str = MISSING
    device: str = "auto"
    threads: int = 1


def run(settings: Settings, config: DictConfig) -> int:
    """Serves the policy."""
    from robopolicy.serving.access import Access
    from robopolicy.serving.loading import Watcher, load_served
    from robopolicy.serving.server import PolicyServer

    logging.getLogger("robopolicy.serving").setLevel(logging.INFO)
    Access(settings)  # what is wrong there is told before anything is loaded
    watcher = Watcher(
        Path(settings.checkpoint).expanduser(),
        lambda checkpoint: load_served(checkpoint, device=settings.device, threads=settings.threads),
    )
    server = PolicyServer(watcher.load(), settings)
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_serve(server, watcher))
    console.line("Stopped.")
    return 0


async def _serve(server: PolicyServer, watcher: Watcher) -> None:
    """Serves until SIGINT or SIGTERM."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM):
        if task is not None:
            loop.add_signal_handler(number, task.cancel)
    watching = asyncio.create_task(watcher.run(server))
    try:
        await server.run(lambda address: console.line(f"Serving at {address} (Ctrl-C ends it)"))
    finally:
        watching.cancel()
