"""A sensor or camera that is read in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.hosting.device import HostedDevice
from robopolicy_drivers.runtime.alignment import state_at

_CONTROL = "robopolicy_drivers.hosting.sensor_loop:sense"


class HostedSensor(HostedDevice):
    """The ``Sensor`` interface on a ``sensor_loop.Source`` in a process of its own.

    Args:
        source: ``"module:class"`` of the source.
        config: that it is built with; it must be picklable.
        spec: what it measures.
        name: for messages, e.g. ``"RealSense 8124"``.
        slots: samples that are remembered, for ``state_at`` and for who records all of them.
        hidden: features that the source gives besides the spec's, e.g. ``ring_source.LOST``.
        heartbeat_timeout_s: silence of the process after which it counts as stuck [s].
        start_timeout_s: until the first sample [s].
    """

    def __init__(
        self,
        source: str,
        config: Any,
        spec: Spec,
        *,
        name: str,
        slots: int = 256,
        hidden: Sequence[Feature] = (),
        heartbeat_timeout_s: float = 2.0,
        start_timeout_s: float = 30.0,
    ) -> None:
        arguments: Mapping[str, Any] = {"source": source, "config": config}
        super().__init__(
            _CONTROL,
            arguments,
            spec,
            name=name,
            slots=slots,
            hidden=hidden,
            heartbeat_timeout_s=heartbeat_timeout_s,
            start_timeout_s=start_timeout_s,
        )

    def read(self) -> tuple[int, dict[str, NDArray]]:
        """Returns the newest sample and when it was measured [ns, monotonic]; does not wait."""
        record = self._newest()
        return record.time_ns, {feature.key: record.data[feature.key] for feature in self.spec.observation}

    def state_at(self, time_ns: int) -> tuple[int, dict[str, NDArray]]:
        """Returns the sample at ``time_ns`` and its time [ns, monotonic].

        It is interpolated between the samples around it; of times before the oldest that is remembered, or
        after the newest, it is that one.
        """
        self._running().check()
        return state_at(self.ring, self.spec.observation, time_ns)

    def zero(self) -> None:
        """Takes the present load for none; what is read from then on is without it.

        Raises:
            DeviceError: the sensor has no zero of its own, or nothing that could be its zero was measured.
        """
        self._running().request("zero")
        last = self.ring.latest
        self._await(lambda record: record.number > last)
