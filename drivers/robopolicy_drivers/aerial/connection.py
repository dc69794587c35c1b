"""Opens a MAVLink connection through pymavlink, or says why that is not possible and what to do."""

from __future__ import annotations

import errno
import importlib
import os
import socket
from typing import Any

from robopolicy_datasets.errors import DeviceError, missing_extra
from robopolicy_drivers.aerial.configs import MavlinkConfig


def open_connection(config: MavlinkConfig) -> tuple[Any, Any]:
    """Returns pymavlink's connection to an address, and its module of messages.

    Raises:
        MissingExtraError: pymavlink is not installed.
        DeviceError: the address cannot be used.
    """
    mavutil = import_mavutil()
    _refuse_busy_port(config.address)
    try:
        connection = mavutil.mavlink_connection(
            config.address,
            baud=config.baud,
            source_system=config.station_id,
            source_component=config.station_component_id,
        )
    except (OSError, ValueError) as error:
        raise _unusable(config.address, error) from error
    connection.handle_eof = _closed  # of TCP, where pymavlink would go on, and say so at each call
    return connection, mavutil.mavlink


def import_mavutil() -> Any:
    """Imports pymavlink, so that it speaks MAVLink 2; this process speaks for nobody else."""
    os.environ["MAVLINK20"] = "1"
    try:
        return importlib.import_module("pymavlink.mavutil")
    except ModuleNotFoundError as error:
        raise missing_extra("robot=mavlink", "mavlink") from error


def _refuse_busy_port(address: str) -> None:
    """Looks whether a UDP port is free: pymavlink would share it, and one of both would hear nothing."""
    kind, _, place = address.partition(":")
    host, _, port = place.partition(":")
    if kind not in ("udp", "udpin") or not port.isdigit():
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            raise _unusable(address, error) from error


def _closed() -> None:
    raise ConnectionResetError("the other side has closed it")


def _unusable(address: str, error: Exception) -> DeviceError:
    advice = {
        errno.EADDRINUSE: "Another program listens there (a ground station?): end it, or have the vehicle "
        "send to a further port and give that.",
        errno.EACCES: "You may not open it: add yourself to its group (sudo usermod -aG dialout $USER) and "
        "log in again.",
        errno.ENOENT: "It is not plugged in, or has another name: see ls /dev/ttyACM* /dev/ttyUSB*.",
        errno.ECONNREFUSED: "Nobody listens there: see that the vehicle, or what routes to it, is on.",
    }
    known = advice.get(getattr(error, "errno", None) or 0, "Give e.g. udpin:0.0.0.0:14540 or /dev/ttyACM0.")
    return DeviceError(f"The address {address} cannot be used: {error}. {known}")
