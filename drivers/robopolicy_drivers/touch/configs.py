"""Settings of the sensors of touch and force. Imports no numpy and no vendor's package."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from robopolicy_datasets.errors import ConfigError
from robopolicy_drivers.cameras.configs import OpenCvCameraConfig
from robopolicy_drivers.hosting.facts import DeviceFacts, Evidence
from robopolicy_drivers.setting_checks import require_numbers, require_rotation


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
        rates="1 kHz tested",
        evidence=Evidence.OWN_EMULATOR,
        tested_against="a Net F/T box; NetFT 2.0.1 as a second client",
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
        require_numbers("sensor_position", self.sensor_position, 3)
        require_rotation("sensor_quaternion", self.sensor_quaternion)


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
        tested_against="a board on a pseudo terminal; flexitac 0.3.1 as a second client",
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


def _gel_camera() -> OpenCvCameraConfig:
    return OpenCvCameraConfig(width=320, height=240, fps=25.0)


@dataclass
class GelSightConfig:
    """A gel with printed markers before a camera, such as a GelSight Mini: how far each marker moves.

    Attributes:
        camera: that looks at the gel. Its whole picture is used; key and image_size do not matter.
        key: of the displacements.
        rows: of markers in the picture.
        columns: of markers in the picture.
        size: height and width of what the picture shows of the gel (2) [m].
        images: whether there are the pictures too, under the key that ends on _rgb.
    """

    target: ClassVar[str] = "robopolicy_drivers.touch.gelsight:GelSight"
    device: ClassVar[DeviceFacts] = DeviceFacts(
        protocol="UVC, HTTP motion JPEG, RTSP or video files",
        sdk="own tracker, on OpenCV",
        rates="the camera's; 50 Hz tested",
        evidence=Evidence.OWN_EMULATOR,
        tested_against="a camera with drawn markers; recordings of a GelSight Mini",
    )

    camera: OpenCvCameraConfig = field(default_factory=_gel_camera)
    key: str = "robot0_tactile0_markers"
    rows: int = 7
    columns: int = 9
    size: list[float] = field(default_factory=lambda: [0.0143, 0.0186])
    images: bool = False

    def __post_init__(self) -> None:
        if self.rows < 2 or self.columns < 2:
            raise ConfigError(
                f"rows is {self.rows} and columns {self.columns}; a grid has 2 of each at least."
            )
        if len(self.size) != 2 or not all(length > 0 for length in self.size):
            raise ConfigError(f"size is {self.size}; give height and width of the picture [m], both above 0.")
