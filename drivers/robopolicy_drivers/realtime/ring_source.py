"""What a device process writes to its ring, for the recorder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robopolicy_datasets.recording.sources import Samples
from robopolicy_drivers.realtime.ring import Ring


class RingSource:
    """Reads every record of a ring once (a ``Source`` of ``robopolicy_datasets.recording``).

    Args:
        ring: to read. Its slots must last for the time between two reads, else records are lost, and counted.
        keys: of the ring's features; all by default.
    """

    def __init__(self, ring: Ring, keys: Sequence[str] = ()) -> None:
        self._ring = ring
        self._features = [f for f in ring.features if not keys or f.key in keys]
        self._number = ring.latest  # of the newest record that was read

    @property
    def keys(self) -> list[str]:
        """The keys of the ring's features that are read."""
        return [feature.key for feature in self._features]

    def read(self) -> Samples:
        """Returns the records since the last call."""
        records = self._ring.newer_than(self._number)
        newest = records[-1].number if records else self._number
        lost, self._number = newest - self._number - len(records), newest
        values = {
            feature.key: np.array([record.data[feature.key] for record in records], feature.dtype).reshape(
                len(records), *feature.shape
            )
            for feature in self._features
        }
        return Samples(np.array([record.time_ns for record in records], np.int64), values, lost)
