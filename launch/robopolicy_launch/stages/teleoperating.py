"""Devices by which a person drives a robot through its driver."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.registry import teleops
from robopolicy_drivers.teleop.configs import ReplayConfig
from robopolicy_drivers.teleop.operator import TeleopOperator
from robopolicy_launch.settings import registered_name

if TYPE_CHECKING:
    from robopolicy_drivers.interfaces import Robot, Teleop


def teleop_of(config: Any, robot: Robot) -> Teleop:
    """Builds the disconnected device of a config, for a robot.

    Raises:
        ConfigError: it demonstrates in simulation only.
    """
    name = registered_name("teleop", config)
    if not hasattr(config, "device"):
        able = [other for other in teleops.names() if hasattr(teleops.config_class(other), "device")]
        raise ConfigError(
            f"teleop={name} demonstrates in simulation and drives no robot; these do: {', '.join(able)}."
        )
    teleop: Teleop = teleops.build(name, config, robot)
    return teleop


@contextlib.contextmanager
def operated(config: Any, robot: Robot) -> Iterator[TeleopOperator]:
    """Connects the device by which a person may take a robot over, and closes it at the end.

    Args:
        config: of the device.
        robot: that is taken over.

    Raises:
        ConfigError: it is no device by which a person drives.
        DeviceError: it is not there; says what to do.
    """
    if isinstance(config, ReplayConfig):
        raise ConfigError(
            "By teleop=replay nobody can take a robot over; give a device that a person drives with, e.g. "
            "teleop=gamepad."
        )
    with teleop_of(config, robot) as teleop:
        yield TeleopOperator(teleop)
