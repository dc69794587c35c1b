"""Network cameras: how old pictures are when a program has them, beside a plain loop around OpenCV.

The cameras are those of the tests, whose pictures show the time; start them first:
``python tests/drivers/emulators/mjpeg_server.py 8080 30`` and
``python tests/drivers/emulators/rtsp_server.py 8554 30``. The plain loop reads whole pictures in the process
that uses them. Ours reads the images of 224 px that another process has made, and that process's time counts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.cameras.camera import HostedCamera
from robopolicy_drivers.cameras.configs import OpenCvCameraConfig
from robopolicy_launch.benchmarks import Row
from robopolicy_launch.benchmarks._timed_pictures import shown_ns

CAMERAS = {"mjpeg": "http://127.0.0.1:8080/", "rtsp": "rtsp://127.0.0.1:8554/stream"}
PLAIN = "cv2.VideoCapture in a plain loop"
_SETTLING_S = 1.0  # in which FFmpeg catches up with what it kept while it looked at the stream


@dataclass
class _Reading:
    """What was measured in all rounds of one way of reading."""

    ages_ms: list[float] = field(default_factory=list)
    processor_s: float = 0.0

    def add(self, image: NDArray[np.uint8]) -> None:
        there_ns = now_ns()
        self.ages_ms.append((there_ns - shown_ns(image, there_ns)) / 1e6)

    def age(self, percent: float) -> float:
        return float(np.percentile(self.ages_ms, percent))


def run(*, seconds: float = 20.0) -> Iterator[Row]:
    """Measures each kind of camera.

    Args:
        seconds: to spend on each.
    """
    for name, address in CAMERAS.items():
        yield from compare(name, address, seconds)


def compare(name: str, address: str, seconds: float, rounds: int = 2) -> Iterator[Row]:
    """Reads a camera in both ways, in turn.

    Args:
        name: of the camera, for the rows.
        address: of the camera.
        seconds: of reading, in both ways together.
        rounds: turns of each way.

    Raises:
        DeviceError: it is not there.
    """
    ours, plain = _Reading(), _Reading()
    for _ in range(rounds):
        _read_plainly(address, seconds / (2 * rounds), plain)
        _read(address, seconds / (2 * rounds), ours)
    for percent in (50, 99):
        yield Row(f"{name}_age_p{percent}", ours.age(percent), plain.age(percent), "ms", PLAIN)
    yield Row(f"{name}_rate", len(ours.ages_ms) / seconds * 2, len(plain.ages_ms) / seconds * 2, "Hz", PLAIN)
    each = [1e3 * reading.processor_s / len(reading.ages_ms) for reading in (ours, plain)]
    yield Row(f"{name}_processor", each[0], each[1], "ms", PLAIN)


def _read_plainly(address: str, seconds: float, reading: _Reading) -> None:
    capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG)
    for _ in _for_a_while(_SETTLING_S):
        _grabbed(capture, address)
    begun_s = time.process_time()
    for _ in _for_a_while(seconds):
        reading.add(_grabbed(capture, address))
    reading.processor_s += time.process_time() - begun_s
    capture.release()


def _read(address: str, seconds: float, reading: _Reading) -> None:
    config = OpenCvCameraConfig(address=address)
    with HostedCamera(config) as camera:
        time.sleep(_SETTLING_S)
        begun_s, number = time.process_time() + _processor_s(camera.pid), camera.ring.latest
        for _ in _for_a_while(seconds):
            record = camera.ring.wait_newer(number, 1.0)
            if record is not None:
                number = record.number
                reading.add(record.data[config.key])
        reading.processor_s += time.process_time() + _processor_s(camera.pid) - begun_s


def _for_a_while(seconds: float) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield


def _grabbed(capture: cv2.VideoCapture, address: str) -> NDArray[np.uint8]:
    there, picture = capture.read()
    if not there:
        raise DeviceError(
            f"No picture comes from {address}. Start the camera first: python "
            "tests/drivers/emulators/mjpeg_server.py 8080 30 (or rtsp_server.py 8554 30)."
        )
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def _processor_s(pid: int | None) -> float:
    """Returns the processor time of another process [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
