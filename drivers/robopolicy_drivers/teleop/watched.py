"""A sensor whose silence is an error: what a person's hand holds must never be lost unnoticed."""

from __future__ import annotations

from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, ns_to_seconds, seconds_to_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_drivers.hosting.sensor import HostedSensor

SILENCE_NS = seconds_to_ns(0.5)


class WatchedSensor(HostedSensor):
    """A device in a process of its own that delivers samples also while nothing happens."""

    def recent(self) -> dict[str, NDArray]:
        """Returns the newest sample.

        Raises:
            DeviceError: the device was lost, or has said nothing for half a second.
        """
        time_ns, sample = self.read()
        if now_ns() - time_ns > SILENCE_NS:
            raise DeviceError(
                f"The {self.name} has said nothing for {ns_to_seconds(now_ns() - time_ns):.1f} s. Check its "
                "cable or battery, and begin again."
            )
        return sample
