"""franka-sim (a third party's) with the arm's limits enforced, and something 30 mm wide between the fingers.

Run as ``python franka_strict.py HOST ASSETS`` in an environment of its own: franka-sim needs NumPy 1 and an
older MuJoCo. ``ASSETS`` is the folder of that name in franky-sim, whose model of the arm is used; its own
would be downloaded.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path


def main(host: str, assets: str) -> None:
    """Serves one robot until the process ends or its input is closed."""
    with suppress(PermissionError):  # an arm's controller has a computer of its own
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(Path(assets) / "fr3.xml", folder)
        shutil.copytree(Path(assets) / "meshes", Path(folder) / "assets")
        os.environ["FR3_MJCF"] = str(Path(folder) / "fr3.xml")
        from franka_sim import FrankaSimServer

        server = FrankaSimServer(
            host=host,
            enforce_comm_constraints=True,
            enforce_motion_limits=True,
            gripper_object_width=0.03,
        )
        threading.Thread(target=server.start, daemon=True).start()
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
