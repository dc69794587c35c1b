"""FlexiTac: a flexible grid of taxels, read from its serial port as fast as it sends."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import NANOSECONDS, now_ns, ns_to_seconds
from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.hosting.sensor import HostedSensor
from robopolicy_drivers.serial_port import open_serial
from robopolicy_drivers.touch.configs import FlexiTacConfig
from robopolicy_drivers.touch.taxel_frames import FrameParser

if TYPE_CHECKING:
    from serial import Serial

_WAIT_S = 0.1
_SILENCE_S = 0.5
_ZERO_FRAMES = 30  # whose median is taken for no load
_BITS_PER_BYTE = 10  # on the wire: with start and stop bit


class FlexiTac(HostedSensor):
    """How hard each taxel is pressed; it fits ``interfaces.Touch``.

    ``float32 [rows, columns]`` in steps of the sensor's converter (0 to 255, more is harder), less what
    ``zero`` has taken for none; it is not calibrated in newtons.

    Args:
        config: the settings.
    """

    def __init__(self, config: FlexiTacConfig) -> None:
        frame = config.key.removesuffix("_taxels")
        taxels = Feature(
            config.key, (config.rows, config.columns), kind="touch", rate_hz=config.rate_hz, frame=frame
        )
        super().__init__(
            "robopolicy_drivers.touch.flexitac:FlexiTacSource",
            config,
            Spec((taxels,), ()),
            name=f"FlexiTac {config.port}",
        )


class FlexiTacSource:
    """Reads the frames of the sensor (a ``sensor_loop.Source``).

    It asks the port for just the bytes that the next frame lacks, so it never waits for more than that.

    Args:
        config: the settings.
    """

    def __init__(self, config: FlexiTacConfig) -> None:
        self.config = config
        self._parser = FrameParser(config.rows * config.columns)
        self._frames: deque[tuple[int, NDArray[np.uint8]]] = deque()
        self._recent: deque[NDArray[np.uint8]] = deque(maxlen=_ZERO_FRAMES)
        self._unpressed = np.zeros((config.rows, config.columns), np.float32)
        self._byte_ns = _BITS_PER_BYTE * NANOSECONDS // config.baudrate
        self._time_ns = 0
        self._byte_heard_ns = self._frame_heard_ns = 0
        self._port: Serial | None = None

    def open(self) -> None:
        """Opens the port.

        Raises:
            DeviceError: there is no such port, no permission for it, or another program uses it.
            MissingExtraError: pyserial is not installed.
        """
        self._port = open_serial(self.config.port, self.config.baudrate, _WAIT_S)
        self._byte_heard_ns = self._frame_heard_ns = now_ns()

    def read(self) -> tuple[int, dict[str, NDArray]] | None:
        """Returns the next frame and when its last byte came [ns, monotonic]; None where none has come.

        Raises:
            DeviceError: the port is gone, or nothing comes that is a frame.
        """
        if not self._frames:
            self._receive()
        if not self._frames:
            self._check_silence()
            return None
        time_ns, frame = self._frames.popleft()
        self._time_ns = max(time_ns, self._time_ns + 1)
        self._recent.append(frame)
        return self._time_ns, {self.config.key: frame - self._unpressed}

    def zero(self) -> None:
        """Takes the median of the last 30 frames for no load.

        Raises:
            DeviceError: there were fewer.
        """
        if len(self._recent) < _ZERO_FRAMES:
            raise DeviceError(f"Only {len(self._recent)} of {_ZERO_FRAMES} frames have come; try again soon.")
        self._unpressed = np.median(self._recent, axis=0).astype(np.float32)

    def close(self) -> None:
        """Releases the port."""
        if self._port is not None:
            self._port.close()

    def _receive(self) -> None:
        """Waits for the bytes that the next frame lacks, at most 0.1 s; cuts what has come into frames."""
        if self._port is None:
            raise DeviceError("The FlexiTac is not open; call open() first.")
        config, parser = self.config, self._parser
        try:
            data = self._port.read(max(parser.wanted, self._port.in_waiting))
        except OSError as error:  # pyserial's errors are of this kind
            raise DeviceError(
                f"The FlexiTac at '{config.port}' is gone ({error}). Plug in its cable and connect again."
            ) from error
        arrived_ns = now_ns()
        frames = parser.feed(data)
        for index, frame in enumerate(frames):
            # What came after a frame has taken its time on the wire.
            after = parser.waiting + (len(frames) - 1 - index) * (len(frame) + 2)
            taxels = np.frombuffer(frame, np.uint8).reshape(config.rows, config.columns)
            self._frames.append((arrived_ns - after * self._byte_ns, taxels))
        if data:
            self._byte_heard_ns = arrived_ns
        if frames:
            self._frame_heard_ns = arrived_ns

    def _check_silence(self) -> None:
        config, now = self.config, now_ns()
        if ns_to_seconds(now - self._frame_heard_ns) <= _SILENCE_S:
            return
        if ns_to_seconds(now - self._byte_heard_ns) > 0.5 * _SILENCE_S:
            raise DeviceError(
                f"The FlexiTac at '{config.port}' sends nothing any more. Unplug it, plug it in, and connect "
                "again; where it stays silent, flash its firmware (flexitac-flash)."
            )
        raise DeviceError(
            f"What comes from '{config.port}' are no frames of {config.rows} x {config.columns} taxels at "
            f"{config.baudrate} baud ({self._parser.skipped} bytes skipped). Set rows, columns and baudrate "
            "to those of its firmware, and see that no other program reads the port."
        )
