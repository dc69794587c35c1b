"""What the verbs that open a robot have in common."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from robopolicy_launch.settings import REGISTRIES, registered_name

if TYPE_CHECKING:
    from robopolicy_drivers.interfaces import Camera, Robot


def build(kind: str, config: Any) -> Any:
    """Builds the disconnected device that the config of a registered robot, camera or sensor describes."""
    return REGISTRIES[kind].build(registered_name(kind, config), config)


@contextlib.contextmanager
def connected(robot: Robot) -> Iterator[tuple[Camera, ...]]:
    """Connects a robot and its own cameras, which it yields, and closes them all in the end."""
    cameras: tuple[Camera, ...] = tuple(getattr(robot, "cameras", ()))
    with contextlib.ExitStack() as devices:
        devices.callback(robot.close)
        robot.connect()
        for camera in cameras:
            devices.callback(camera.close)
            camera.connect()
        yield cameras
