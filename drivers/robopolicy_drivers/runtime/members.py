"""The devices of a robot, each of which measures at times of its own."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from robopolicy_drivers.interfaces import HasMembers, Member, Robot


def members_of(robot: Robot) -> tuple[Member, ...]:
    """Returns the devices of a robot; one that consists of no others is its own only one."""
    if isinstance(robot, HasMembers):
        return robot.members
    return (Member("robot", robot, lambda key: key),)


def newest_of(device: Any) -> tuple[int, dict[str, NDArray]]:
    """Returns what a robot or sensor has measured last, and when [ns, monotonic].

    Raises:
        DeviceError: it is not connected, or has died.
    """
    newest: tuple[int, dict[str, NDArray]] = device.state() if device.spec.action else device.read()
    return newest
