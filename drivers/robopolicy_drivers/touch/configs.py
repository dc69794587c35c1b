"""Settings of the sensors of touch and force. Imports no numpy and no vendor's package."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from robopolicy_datasets.errors import ConfigError
from robopolicy_drivers.hosting.facts import DeviceFacts, Evidence


@dataclass
class AtiNetFtConfig:
    """Force and torque of an ATI Net F/T (UDP, RDT), at the tool.

    Attributes:
        host: address of the Net F/T box.
        rate_hz: RDT output rate, as set on the box's Communications page.
        counts_per_force: counts per N; left out, it is read from the box.
        counts_per_torque: counts per N m; left out, it is read from the box.
        sensor_position: where the sensor's origin is in the frame of the TCP (3) [m].
        sensor_quaternion: how the sensor stands in the frame of the TCP (4, wxyz).
        port: of RDT.
        web_port: of the box's web pages, where it tells its calibration.
    """

    target: ClassVar[str] = "robopolicy_drivers.touch.ati_net_ft:AtiNetFt"
    device: ClassVar[DeviceFacts] = DeviceFacts(
        protocol="RDT over UDP",
        sdk="own",
        rates="up to 7000 Hz; 1 kHz tested",
        evidence=Evidence.OWN_EMULATOR,
        tested_against="own emulator, which NetFT 2.0.1 reads too",
    )

    host: str = "192.168.1.1"
    rate_hz: float = 1000.0
    counts_per_force: float | None = None
    counts_per_torque: float | None = None
    sensor_position: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    sensor_quaternion: list[float] = field(default_factory=lambda: [1.0, 0.0, 0.0, 0.0])
    port: int = 49152
    web_port: int = 80

    def __post_init__(self) -> None:
        if (self.counts_per_force is None) != (self.counts_per_torque is None):
            raise ConfigError("Give both counts_per_force and counts_per_torque, or neither.")
        for name in ("rate_hz", "counts_per_force", "counts_per_torque"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is {value}; give a number above 0.")
        if not any(self.sensor_quaternion):
            raise ConfigError("sensor_quaternion is all zero; give a rotation (wxyz), [1,0,0,0] for none.")


@dataclass
class FlexiTacConfig:
    """A FlexiTac: a flexible grid of taxels on a serial port.

    Attributes:
        port: the serial port, best by its stable name under /dev/serial/by-id.
        key: of the readings.
        rows: of taxels, as in its firmware.
        columns: of taxels, as in its firmware.
        baudrate: as in its firmware [bit/s].
        rate_hz: frames per second that it sends.
    """

    target: ClassVar[str] = "robopolicy_drivers.touch.flexitac:FlexiTac"
    device: ClassVar[DeviceFacts] = DeviceFacts(
        protocol="frames over USB serial, 2 Mbaud",
        sdk="own, on pyserial",
        rates="100 Hz at 12 x 32 taxels",
        evidence=Evidence.OWN_EMULATOR,
        tested_against="own emulator, which flexitac 0.3.1 reads too",
    )

    port: str = "/dev/ttyUSB0"
    key: str = "robot0_tactile0_taxels"
    rows: int = 12
    columns: int = 32
    baudrate: int = 2_000_000
    rate_hz: float = 100.0

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "baudrate", "rate_hz"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; give a number above 0.")
