"""Moving simulated robots through the driver interface, and waiting for what follows."""

import time

import numpy as np

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_drivers.conformance import holding_target


def here(robot):
    """Where all tools are and how far the grippers are open ``[7 * robots]``."""
    return holding_target(robot.spec, robot.state()[1]).astype(float)


def moved(pose, x=0.0, y=0.0, z=0.0):
    """A target of one robot, moved [m]."""
    return pose + np.array([x, y, z, 0, 0, 0, 0])


def go(robot, target, seconds=3.0):
    """Repeats a target until the tools are there or the time is over; returns how far one is away [m]."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        robot.command(target, now_ns() + seconds_to_ns(0.2))
        time.sleep(0.05)
        away = np.abs(here(robot) - target).reshape(-1, 7)[:, :3].max()
        if away < 2e-3:
            break
    return away


def wait_until(condition, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False
