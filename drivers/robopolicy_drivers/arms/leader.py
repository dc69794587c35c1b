"""A leader arm: the same servos as the follower's without torque, moved by a person's hand."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from robopolicy_drivers.arms.feetech import CalibratedServos


class LeaderArm:
    """Reads an SO-101 leader arm. It belongs to one thread, which waits 2 to 3 ms for an answer of the bus.

    Args:
        port: the serial port of its bus.
        calibration: file of its joints, made like the follower's.
        embodiment: whose joints it has.
    """

    def __init__(self, port: str, calibration: str, embodiment: str = "so101") -> None:
        self._servos = CalibratedServos(port, calibration, embodiment)

    def open(self) -> None:
        """Opens the bus and switches the torque off.

        Raises:
            ConfigError: the calibration is missing or another arm's.
            DeviceError: the bus cannot be used, or was calibrated differently.
        """
        self._servos.open()
        self._servos.bus.enable_torque(False)

    def positions(self) -> tuple[int, NDArray[np.float64], float]:
        """Returns when it was read [ns, monotonic], its joints ``[J]`` [rad] and its grip's opening [m].

        Raises:
            DeviceError: the bus does not answer.
        """
        time_ns, _, counts = self._servos.read()
        return time_ns, self._servos.scale.angles(counts), self._servos.scale.width(counts)

    def close(self) -> None:
        """Closes the bus. Calling it again does nothing."""
        self._servos.bus.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
