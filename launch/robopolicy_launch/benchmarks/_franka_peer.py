"""franky-sim, a third party's simulation of a Franka and its controller, as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.realtime.scheduling import FIFO_PRIORITY

_READY = "Connect to the server"


@contextmanager
def franka_peer() -> Iterator[str]:
    """Serves a simulated Franka; yields its host, a loopback address that is this process's own.

    Raises:
        DeviceError: it does not start.
    """
    host = f"127.13.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
    serve = "from franky_sim.run_server import main; main()"
    command = [sys.executable, "-c", serve, "-s", "mujoco", "--hostname", host]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    try:
        if not any(_READY in line for line in process.stdout or ()):
            raise DeviceError(
                f"franky-sim did not start at {host} (see above). Is it installed (pip install franky-sim), "
                f"and are the ports 1337 and 1338 of {host} free?"
            )
        with suppress(PermissionError):  # a robot's controller is a computer of its own; here it goes first
            os.sched_setscheduler(process.pid, os.SCHED_FIFO, os.sched_param(FIFO_PRIORITY - 10))
        yield host
    finally:
        process.kill()
        process.wait()
