"""What OpenCV can open, and how its kinds differ: in opening, in whose clock tells the times, in ending."""

from __future__ import annotations

import glob
import os
import re
import socket
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import cv2

from robopolicy_datasets.clock import NANOSECONDS
from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.cameras.configs import OpenCvCameraConfig
from robopolicy_drivers.cameras.source import Pace
from robopolicy_drivers.hosting.device_clock import DeviceClock

_DEVICE = re.compile(r"(?:/dev/video)?\d+")
_OPEN_TIMEOUT_MS, _READ_TIMEOUT_MS = 5000, 1000
_PORTS = {"rtsp": 554, "http": 80, "https": 443}
_MILLISECOND_NS = 1_000_000
# RTP over TCP loses no packets; a server that cannot do it is asked for UDP. FFmpeg keeps no queue from when
# it looked at the stream, and does not look for its rate, which takes a second.
_LIVE_STREAM = "rtsp_flags;prefer_tcp|fflags;nobuffer|flags;low_delay|fpsprobesize;0"
_ONE_THREAD = (cv2.CAP_PROP_N_THREADS, 1)  # each further one holds a picture back


class Input(Protocol):
    """A kind of what can be opened."""

    @property
    def lost(self) -> str:
        """What to tell when no more pictures can be taken."""

    def open(self) -> cv2.VideoCapture:
        """Opens it.

        Raises:
            DeviceError: it cannot be used, with the reason and what to do.
        """

    def time_ns(self, position_ms: float, arrival_ns: int) -> int:
        """Returns when a picture was taken [ns, monotonic]; may wait until it is due.

        Args:
            position_ms: that OpenCV tells (``CAP_PROP_POS_MSEC``).
            arrival_ns: when it was here [ns, monotonic].
        """


def input_of(config: OpenCvCameraConfig) -> Input:
    """Returns the kind that the address of a camera means."""
    if _DEVICE.fullmatch(config.address):
        return VideoDevice(config)
    return Stream(config) if "://" in config.address else VideoFile(config)


class VideoDevice:
    """A UVC or other camera of this computer (V4L2).

    Args:
        config: the settings.
    """

    def __init__(self, config: OpenCvCameraConfig) -> None:
        self._config = config
        self._path = Path(f"/dev/video{config.address.removeprefix('/dev/video')}")
        self._clock = DeviceClock()
        self._ours: bool | None = None  # whether the driver's buffers have times of our clock
        self.lost = (
            f"{self._path} delivers no more pictures. See whether the camera is still plugged in "
            f"(ls {self._path}), then connect again."
        )

    def open(self) -> cv2.VideoCapture:
        """Opens the camera with the size, rate and format that are asked for, and checks what was granted."""
        check_device_file(self._path)
        config = self._config
        wanted = {
            cv2.CAP_PROP_FRAME_WIDTH: config.width,
            cv2.CAP_PROP_FRAME_HEIGHT: config.height,
            cv2.CAP_PROP_FPS: config.fps,
        }
        if config.fourcc:  # first: sizes and rates belong to a format
            wanted = {cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*config.fourcc), **wanted}
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_V4L2)
        if not capture.isOpened():
            raise DeviceError(
                f"{self._path} is there but cannot be used: another program has it (fuser -v {self._path}), "
                "or it is no camera but the metadata of one; then take the next number."
            )
        for setting, value in wanted.items():
            capture.set(setting, value)
        granted = {setting: capture.get(setting) for setting in wanted}
        told = {setting: value for setting, value in granted.items() if value > 0}  # some tell no rate
        if any(abs(value - wanted[setting]) > 0.5 for setting, value in told.items()):
            capture.release()
            raise DeviceError(self._offer(granted))
        return capture

    def time_ns(self, position_ms: float, arrival_ns: int) -> int:
        """Returns the time of the driver's buffer: of the monotonic clock with most drivers, or any other."""
        stamp_ns = round(position_ms * _MILLISECOND_NS)
        if stamp_ns <= 0:  # a driver that tells nothing
            return arrival_ns
        if self._ours is None:  # once: a picture that comes late is still of the same clock
            self._ours = 0 <= arrival_ns - stamp_ns < NANOSECONDS
        return min(stamp_ns, arrival_ns) if self._ours else self._clock.monotonic_ns(stamp_ns, arrival_ns)

    def _offer(self, granted: dict[int, float]) -> str:
        config = self._config
        fourcc = int(granted.get(cv2.CAP_PROP_FOURCC, 0)).to_bytes(4, "little").decode("ascii", "replace")
        return (
            f"{self._path} was asked for {config.width} x {config.height} px at {config.fps:g} Hz "
            f"{config.fourcc}, and offers {granted[cv2.CAP_PROP_FRAME_WIDTH]:.0f} x "
            f"{granted[cv2.CAP_PROP_FRAME_HEIGHT]:.0f} px at {granted[cv2.CAP_PROP_FPS]:g} Hz "
            f"{fourcc if config.fourcc else ''}. All that it can do: v4l2-ctl -d {self._path} "
            "--list-formats-ext"
        )


class Stream:
    """A network camera.

    Args:
        config: the settings.
    """

    def __init__(self, config: OpenCvCameraConfig) -> None:
        self._config = config
        self._parts = urlsplit(config.address)
        # RTP tells when a picture was taken. The positions of other streams are counts of pictures.
        self._clock = DeviceClock() if self._parts.scheme == "rtsp" else None
        self.lost = (
            f"The stream of {config.label} has ended. See whether the camera has power and network, then "
            "connect again."
        )

    def open(self) -> cv2.VideoCapture:
        """Opens the stream."""
        os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", _LIVE_STREAM)  # of this process, the camera's
        parameters = [
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS),
            *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, _READ_TIMEOUT_MS),
            *_ONE_THREAD,
        ]
        capture = cv2.VideoCapture(self._config.address, cv2.CAP_FFMPEG, parameters)
        if not capture.isOpened():
            raise DeviceError(self._refusal())
        return capture

    def time_ns(self, position_ms: float, arrival_ns: int) -> int:
        """Returns the time of RTP's clock on ours; without one, when the picture arrived."""
        if self._clock is None:
            return arrival_ns
        return self._clock.monotonic_ns(round(position_ms * _MILLISECOND_NS), arrival_ns)

    def _refusal(self) -> str:
        host, port = self._parts.hostname or "", self._parts.port or _PORTS.get(self._parts.scheme, 0)
        try:
            socket.create_connection((host, port), timeout=2.0).close()
        except OSError as error:
            return (
                f"Nobody answers at {host}:{port} ({error}). See whether the camera has power and network, "
                "and whether address= is right."
            )
        return (
            f"{host}:{port} answers, but gives no video. See whether path, user and password of address= are "
            "right, and whether another program has the camera: some serve one viewer only."
        )


class VideoFile:
    """A recorded video, played once in real time.

    Args:
        config: the settings.
    """

    def __init__(self, config: OpenCvCameraConfig) -> None:
        self._path = Path(config.address).expanduser()
        self._pace = Pace()
        self.lost = f"The video '{self._path}' has ended. Connect again to play it from its beginning."

    def open(self) -> cv2.VideoCapture:
        """Opens the file."""
        if not self._path.is_file():
            raise DeviceError(
                f"There is no video '{self._path}'. Give address= a video file, a stream (rtsp://, http://) "
                f"or a camera: {_present()}."
            )
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise DeviceError(f"'{self._path}' is no video that FFmpeg can read.")
        return capture

    def time_ns(self, position_ms: float, arrival_ns: int) -> int:
        """Waits until the picture is due, and returns when that is [ns, monotonic]."""
        return self._pace.wait(round(position_ms * _MILLISECOND_NS))


def check_device_file(path: Path) -> None:
    """Raises DeviceError where a device's file is missing or may not be opened."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    except FileNotFoundError as error:
        raise DeviceError(f"There is no camera {path}. Present: {_present()}.") from error
    except PermissionError as error:
        raise DeviceError(
            f"You may not open {path}. Run: sudo usermod -aG video $USER, then log out and in again."
        ) from error
    except OSError as error:
        raise DeviceError(f"{path} cannot be opened: {error.strerror}.") from error


def _present() -> str:
    return ", ".join(sorted(glob.glob("/dev/video*"))) or "no /dev/video*"
