"""What every camera's source does with a picture: it must be the right size, alive, and become an image."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Generic, NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, ns_to_seconds, seconds_to_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.cameras.configs import CameraConfig

SILENCE_S = 1.0  # without any picture

Config = TypeVar("Config", bound=CameraConfig)


class Picture(NamedTuple):
    """What a camera took.

    Attributes:
        time_ns: when [ns, monotonic].
        color: RGB ``[height, width, 3]`` uint8.
        depth: ``[height, width]`` float32 [m], seen from where the color is; 0 where unknown.
    """

    time_ns: int
    color: NDArray[np.uint8]
    depth: NDArray[np.float32] | None = None


class CameraSource(ABC, Generic[Config]):
    """See the module text; it is a ``sensor_loop.Source``.

    Args:
        config: the settings.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._still = _Still(config.frozen_after_s)
        self._heard_ns: int | None = None

    @abstractmethod
    def open(self) -> None:
        """Opens the camera; returns when pictures may come."""

    @abstractmethod
    def picture(self) -> Picture | None:
        """Returns the newest picture that was not returned yet, or None where none comes within 0.1 s."""

    @abstractmethod
    def close(self) -> None:
        """Releases the camera, however far ``open`` came."""

    def read(self) -> tuple[int, dict[str, NDArray]] | None:
        """Returns the next sample and when it was taken [ns, monotonic]; None where none has come.

        Raises:
            DeviceError: the camera stopped delivering, has frozen, or delivers pictures of another size.
        """
        picture, now = self.picture(), now_ns()
        if picture is None:
            if self._heard_ns is not None and now - self._heard_ns > seconds_to_ns(SILENCE_S):
                raise DeviceError(
                    f"No picture has come for {ns_to_seconds(now - self._heard_ns):.1f} s. See whether the "
                    "camera has power and its cable is plugged in, then connect again."
                )
            return None
        self._heard_ns = now
        self._check(picture, now)
        return picture.time_ns, self._images(picture)

    def _check(self, picture: Picture, now: int) -> None:
        height, width = picture.color.shape[:2]
        if (width, height) != (self.config.width, self.config.height):
            raise DeviceError(
                f"The pictures are {width} x {height} px, but {self.config.width} x {self.config.height} px "
                f"were asked for; set width={width} height={height}."
            )
        self._still.look(picture.color, now)

    def _images(self, picture: Picture) -> dict[str, NDArray]:
        # Between two distances there is none: they are not averaged across an edge.
        layers = ((picture.color, cv2.INTER_AREA), (picture.depth, cv2.INTER_NEAREST))
        return {
            feature.key: middle_square(layer, self.config.image_size, interpolation)
            for feature, (layer, interpolation) in zip(self.config.features(), layers, strict=False)
            if layer is not None
        }


def middle_square(image: NDArray, size: int, interpolation: int) -> NDArray:
    """Returns the square in the middle of an image, scaled to ``size`` x ``size`` px; 0 returns it whole."""
    if not size:
        return image
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square: NDArray = image[top : top + side, left : left + side]
    return square if side == size else cv2.resize(square, (size, size), interpolation=interpolation)


class Pace:
    """Plays what was recorded in real time."""

    def __init__(self) -> None:
        self._begin_ns: int | None = None

    def wait(self, position_ns: int) -> int:
        """Waits until the picture at a position [ns] is due; returns when that is [ns, monotonic]."""
        if self._begin_ns is None:
            self._begin_ns = now_ns() - position_ns
        due_ns = self._begin_ns + position_ns
        time.sleep(max(0.0, ns_to_seconds(due_ns - now_ns())))
        return due_ns


class _Still:
    """Notices that a picture stays the same to the last bit, which a living camera's noise prevents."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._picture: NDArray[np.uint8] | None = None
        self._since_ns = 0

    def look(self, picture: NDArray[np.uint8], now: int) -> None:
        if not self._limit_s:
            return
        if self._picture is None or not np.array_equal(picture, self._picture):
            self._picture, self._since_ns = picture, now
        elif now - self._since_ns > seconds_to_ns(self._limit_s):
            raise DeviceError(
                f"The same picture has come for {ns_to_seconds(now - self._since_ns):.1f} s: the camera has "
                "frozen. Restart it, then connect again. Where a picture may really stay the same to the "
                "last bit, set frozen_after_s=0."
            )
