"""Where samples are missing: counted, and kept as events of the episode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import NANOSECONDS
from robopolicy_datasets.store import Event

_LATE = 1.5  # periods from one sample to the next from which on one is missing


@dataclass
class _Gap:
    key: str
    start_ns: int
    end_ns: int
    missing: int


class GapWatch:
    """Watches the times of samples.

    Args:
        rates_hz: samples per second of each key that is watched; 0 where none is declared, of which only
            the samples that are reported as lost are counted.
    """

    def __init__(self, rates_hz: Mapping[str, float]) -> None:
        self._rates_hz = rates_hz
        self._newest: dict[str, int] = {}
        self._lost: dict[str, int] = {}  # since the newest sample
        self._gaps: list[_Gap] = []

    def saw(self, key: str, time_ns: NDArray[np.int64], lost: int = 0) -> None:
        """Notes samples.

        Args:
            key: of the samples.
            time_ns: their times ``[n]``, increasing.
            lost: samples that are known to be missing before the first one.
        """
        self._lost[key] = lost = self._lost.get(key, 0) + lost
        if not len(time_ns):
            return
        self._lost[key] = 0
        rate_hz, known = self._rates_hz[key], self._newest.get(key)
        times = np.concatenate([[time_ns[0] if known is None else known], time_ns])
        steps = np.diff(times)
        missing = np.zeros(len(steps), np.int64)
        if rate_hz > 0:
            periods = steps * (rate_hz / NANOSECONDS)
            missing = np.where(periods > _LATE, np.round(periods) - 1, 0).astype(np.int64)
        missing[0] = max(missing[0], lost)
        for index in np.flatnonzero(missing):
            self._note(_Gap(key, int(times[index]), int(times[index + 1]), int(missing[index])))
        self._newest[key] = int(time_ns[-1])

    @property
    def missing(self) -> dict[str, int]:
        """How many samples are missing, by key, where there are any."""
        missing: dict[str, int] = {}
        for gap in self._gaps:
            missing[gap.key] = missing.get(gap.key, 0) + gap.missing
        return missing

    def events(self) -> list[Event]:
        """Returns the gaps as events; those that follow upon each other are one."""
        return [
            Event(
                "gap",
                gap.start_ns,
                gap.end_ns,
                f"{gap.missing} of '{gap.key}' missing",
                author="recorder",
                data={"key": gap.key, "missing": gap.missing},
            )
            for gap in self._gaps
        ]

    def _note(self, gap: _Gap) -> None:
        last = next((other for other in reversed(self._gaps) if other.key == gap.key), None)
        if last is not None and last.end_ns == gap.start_ns:
            last.end_ns, last.missing = gap.end_ns, last.missing + gap.missing
        else:
            self._gaps.append(gap)
