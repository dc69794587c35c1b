"""The settings of cameras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlsplit

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.spec import Feature
from robopolicy_drivers.hosting.facts import DeviceFacts, Evidence


@dataclass
class CameraConfig:
    """What all cameras have in common.

    Attributes:
        key: of the color images.
        width: of the picture that the camera takes [px].
        height: of the picture that the camera takes [px].
        fps: pictures per second that the camera takes.
        image_size: width and height of the images [px], which are the picture's middle square; 0 for whole
            pictures.
        frozen_after_s: the same picture for so long is an error [s]; 0 where a picture may stay the same.
    """

    target: ClassVar[str] = "robopolicy_drivers.cameras.camera:HostedCamera"
    source: ClassVar[str]  # "module:class", see sensor_loop.Source

    key: str = "camera0_rgb"
    width: int = 640
    height: int = 480
    fps: float = 30.0
    image_size: int = 224
    frozen_after_s: float = 2.0

    def __post_init__(self) -> None:
        for name in ("width", "height", "fps"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"camera.{name} is {getattr(self, name)}; give a number above 0.")
        for name in ("image_size", "frozen_after_s"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"camera.{name} is {getattr(self, name)}; give 0 or more.")

    @property
    def label(self) -> str:
        """What messages call it."""
        raise NotImplementedError

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width of the images [px]."""
        return (self.image_size, self.image_size) if self.image_size else (self.height, self.width)

    def features(self) -> tuple[Feature, ...]:
        """Returns what a sample consists of."""
        return (Feature(self.key, (*self.image_shape, 3), "uint8", "rgb", rate_hz=self.fps),)


@dataclass
class OpenCvCameraConfig(CameraConfig):
    """A webcam or other UVC camera, an RTSP or HTTP stream, or a video file, through OpenCV.

    Attributes:
        address: /dev/video0, or its number; rtsp://... or http://...; or a video file, played in real time.
        fourcc: format of a UVC camera's pictures, e.g. MJPG or YUYV; empty leaves it to the camera.
    """

    source: ClassVar[str] = "robopolicy_drivers.cameras.opencv:OpenCvSource"
    device: ClassVar[DeviceFacts] = DeviceFacts(
        protocol="UVC (V4L2), RTSP, HTTP motion JPEG, video files",
        sdk="OpenCV with FFmpeg",
        rates="the camera's; 30 Hz tested",
        evidence=Evidence.THIRD_PARTY_PEER,
        tested_against="rtsp-rs 0.1.8 (H.264 over RTSP); HTTP: own emulator; UVC: untested",
    )

    address: str = "/dev/video0"
    fourcc: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.fourcc) not in (0, 4):
            raise ConfigError(
                f"camera.fourcc is '{self.fourcc}'; give the four letters of a format, e.g. MJPG."
            )

    @property
    def label(self) -> str:
        """What messages call it; a password is not told."""
        secret = urlsplit(self.address).password if "://" in self.address else None
        return f"camera {self.address.replace(f':{secret}@', ':***@') if secret else self.address}"


@dataclass
class RealSenseConfig(CameraConfig):
    """An Intel RealSense camera, or a recording of one.

    Attributes:
        serial: of the camera; may be left out where there is only one.
        recording: a .db3 file that is played instead, in real time.
        depth: whether there are images of distances [m] too, aligned with the color images.
    """

    source: ClassVar[str] = "robopolicy_drivers.cameras.realsense:RealSenseSource"
    device: ClassVar[DeviceFacts] = DeviceFacts(
        protocol="USB, by librealsense",
        sdk="pyrealsense2",
        rates="the camera's; 30 Hz tested",
        evidence=Evidence.THIRD_PARTY_PEER,
        tested_against="librealsense 2.59.1 playing a recording of its software device; no live camera",
        modules=("pyrealsense2",),
    )

    serial: str = ""
    recording: str = ""
    depth: bool = False

    @property
    def label(self) -> str:
        """What messages call it."""
        return " ".join(filter(None, ("RealSense", self.recording or self.serial)))

    @property
    def depth_key(self) -> str:
        """Key of the images of distances."""
        return f"{self.key.removesuffix('_rgb')}_depth"

    def features(self) -> tuple[Feature, ...]:
        """Returns what a sample consists of; depth is 0 where no distance was measured."""
        if not self.depth:
            return super().features()
        depth = Feature(self.depth_key, self.image_shape, "float32", "depth", "m", rate_hz=self.fps)
        return (*super().features(), depth)
