"""What a device process writes to its ring, for the recorder."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from robopolicy_datasets.recording.sources import Samples
from robopolicy_datasets.spec import Feature
from robopolicy_drivers.realtime.ring import Record, Ring

LOST = Feature("lost", (), "int64")
"""Samples that the device has lost so far, where it counts them; in the ring only, of no spec."""


class RingSource:
    """Reads every record of a ring once (a ``Source`` of ``robopolicy_datasets.recording``).

    A record with the time of the one before is the same sample, told again, and is left out. What the device
    says that it has ``LOST`` counts as lost too.

    Args:
        ring: to read. Its slots must last for the time between two reads, else records are lost, and counted.
        keys: of the ring's features; all by default.
        rename: gives each key the name under which it is brought.
        remembered: begin with what the ring still has; else with what comes from now on.
    """

    def __init__(
        self,
        ring: Ring,
        keys: Sequence[str] = (),
        rename: Callable[[str], str] = lambda key: key,
        *,
        remembered: bool = False,
    ) -> None:
        self._ring = ring
        features = [feature for feature in ring.features if feature != LOST]
        self._names = {f: rename(f.key) for f in features if not keys or f.key in keys}
        self._number = ring.latest  # of the newest record that was read
        if remembered:
            self._number = max(self._number - ring.slots + 1, 0)
        self._time_ns: int | None = None
        self._device_lost: int | None = None
        self._lost = 0  # since the newest sample

    @property
    def keys(self) -> list[str]:
        """The names of the ring's features that are read."""
        return list(self._names.values())

    def read(self) -> Samples:
        """Returns the records since the last call."""
        records, lost = [], []
        for record in self._ring.newer_than(self._number):
            self._lost += self._lost_before(record)
            if record.time_ns != self._time_ns:
                records.append(record)
                lost.append(self._lost)
                self._time_ns, self._lost = record.time_ns, 0
        values = {
            name: np.array([record.data[feature.key] for record in records], feature.dtype).reshape(
                len(records), *feature.shape
            )
            for feature, name in self._names.items()
        }
        times = np.array([record.time_ns for record in records], np.int64)
        return Samples(times, values, np.array(lost, np.int64))

    def _lost_before(self, record: Record) -> int:
        """Returns what the ring and the device have lost since the record before."""
        device_lost = int(record.data[LOST.key]) if LOST.key in record.data else 0
        known = device_lost if self._device_lost is None else self._device_lost
        lost = record.number - self._number - 1 + device_lost - known
        self._number, self._device_lost = record.number, device_lost
        return lost
