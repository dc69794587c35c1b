"""The user's side of a device that lives in a process of its own and writes what it measures into a ring."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.realtime.process import DeviceProcess
from robopolicy_drivers.realtime.ring import Record, Ring

RING = "samples"  # name of the device's ring in its process
_ARRIVAL_TIMEOUT_S = 5.0


class HostedDevice:
    """See the module text. A driver derives from it through ``HostedRobot`` or ``HostedSensor``.

    Args:
        target: ``"module:function"`` that runs in the process, see ``DeviceProcess``.
        arguments: for the function; they must be picklable.
        spec: what is measured and taken.
        name: for messages, e.g. ``"Franka arm 192.168.0.2"``.
        slots: records that the ring keeps.
        hidden: features that the process writes besides the observation.
        claim: name of the robot that is moved, see ``DeviceProcess``; empty for what does not move.
        heartbeat_timeout_s: silence after which the process counts as stuck [s].
        start_timeout_s: until it is ready [s].

    Attributes:
        spec: as given.
        name: as given.
    """

    def __init__(
        self,
        target: str,
        arguments: Mapping[str, Any],
        spec: Spec,
        *,
        name: str,
        slots: int,
        hidden: Sequence[Feature] = (),
        claim: str = "",
        heartbeat_timeout_s: float = 0.5,
        start_timeout_s: float = 60.0,
    ) -> None:
        self.spec, self.name = spec, name
        self._target, self._arguments, self._claim = target, dict(arguments), claim
        self._features, self._slots = (*spec.observation, *hidden), slots
        self._heartbeat_timeout_s, self._start_timeout_s = heartbeat_timeout_s, start_timeout_s
        self._ring: Ring | None = None
        self._process: DeviceProcess | None = None

    def connect(self) -> None:
        """Starts the device's process and waits for its first sample.

        Raises:
            DeviceError: it is connected already, or the device cannot be used; with the reason.
        """
        if self._process is not None:
            raise DeviceError(f"The {self.name} is connected already; close it first.")
        self._ring = Ring(self._features, self._slots)
        process = DeviceProcess(
            self._target,
            self._arguments,
            name=self.name,
            rings={RING: self._ring, **self._further_rings()},
            robot=self._claim,
            heartbeat_timeout_s=self._heartbeat_timeout_s,
        )
        process.start(self._start_timeout_s)
        self._process = process
        try:
            self._await(lambda record: True)
        except DeviceError:
            self.close()
            raise

    def close(self) -> None:
        """Ends the device's process. Calling it again does nothing."""
        if self._process is not None:
            self._process.close()
        self._process = self._ring = None

    @property
    def pid(self) -> int | None:
        """Id of the device's process; None while disconnected."""
        return None if self._process is None else self._process.pid

    @property
    def ring(self) -> Ring:
        """The ring of samples, for who follows each of them.

        Raises:
            DeviceError: the device is not connected.
        """
        self._running()
        if self._ring is None:
            raise self._disconnected()
        return self._ring

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _further_rings(self) -> Mapping[str, Ring]:
        """Returns the rings of other devices that the process reads, by the name that it knows them by."""
        return {}

    def _running(self) -> DeviceProcess:
        if self._process is None:
            raise self._disconnected()
        return self._process

    def _disconnected(self) -> DeviceError:
        return DeviceError(f"The {self.name} is not connected; call connect() first.")

    def _newest(self) -> Record:
        """Returns the newest record of a device that is alive."""
        self._running().check()
        record = self.ring.newest()
        if record is None:
            raise DeviceError(f"The {self.name} has delivered nothing yet.")
        return record

    def _await(self, wanted: Callable[[Record], bool], late_s: float = 0.0) -> None:
        """Waits until a record that is wanted has arrived; records arrive ``late_s`` late [s]."""
        deadline_ns = now_ns() + seconds_to_ns(late_s + _ARRIVAL_TIMEOUT_S)
        while (newest := self.ring.newest()) is None or not wanted(newest):
            if now_ns() > deadline_ns:
                raise DeviceError(f"The {self.name} has told nothing new for {_ARRIVAL_TIMEOUT_S:g} s.")
            self._running().check()
            time.sleep(0.001)
