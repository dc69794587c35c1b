"""Every camera that OpenCV opens, as a source of pictures that are never old.

A thread takes each picture as soon as it is there, so that none waits in a queue of the driver or the
network, and keeps the newest only.
"""

from __future__ import annotations

import threading

import cv2
import numpy as np

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.cameras.configs import OpenCvCameraConfig
from robopolicy_drivers.cameras.opencv_inputs import input_of
from robopolicy_drivers.cameras.source import CameraSource, Picture

_WAIT_S = 0.1
_JOIN_S = 1.0


class OpenCvSource(CameraSource[OpenCvCameraConfig]):
    """See the module text.

    Args:
        config: the settings.
    """

    def __init__(self, config: OpenCvCameraConfig) -> None:
        super().__init__(config)
        self._changed = threading.Condition()
        self._newest: Picture | None = None
        self._failure: Exception | None = None
        self._closing = False
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Opens the camera and starts to drain it.

        Raises:
            DeviceError: it cannot be used, with the reason and what to do.
        """
        self._input = input_of(self.config)
        self._capture = self._input.open()
        self._thread = threading.Thread(target=self._drain, name="camera", daemon=True)
        self._thread.start()

    def picture(self) -> Picture | None:
        """Returns the newest picture that was not returned yet, or None where none comes within 0.1 s.

        Raises:
            DeviceError: the camera delivers nothing any more.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._failure, _WAIT_S)
            picture, self._newest = self._newest, None
        if picture is None and self._failure is not None:
            raise self._failure
        return picture

    def close(self) -> None:
        """Releases the camera, however far ``open`` came."""
        self._closing = True
        if self._thread is None:
            return
        self._thread.join(_JOIN_S)
        if not self._thread.is_alive():  # else it waits for a picture, and the end of the process frees it
            self._capture.release()

    def _drain(self) -> None:
        try:
            while not self._closing:
                self._put(self._take())
        except Exception as error:  # whatever it is, the thread that reads tells it
            with self._changed:
                self._failure = error
                self._changed.notify()

    def _take(self) -> Picture:
        if not self._capture.grab():
            raise DeviceError(self._input.lost)
        time_ns = self._input.time_ns(self._capture.get(cv2.CAP_PROP_POS_MSEC), now_ns())
        there, picture = self._capture.retrieve()
        if not there:
            raise DeviceError(self._input.lost)
        return Picture(time_ns, np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8))

    def _put(self, picture: Picture) -> None:
        with self._changed:
            self._newest = picture
            self._changed.notify()
