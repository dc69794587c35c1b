"""Where samples are missing: counted, and kept as events of the episode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import NANOSECONDS
from robopolicy_datasets.store import Event

_LATE = 1.5  # periods from one sample to the next from which on one is missing,
_EARLY = 0.5  # unless the next ones follow so closely: then it was late, and they make up for it


@dataclass
class _Gap:
    key: str
    start_ns: int
    end_ns: int
    periods: float  # without a sample
    lost: int  # of which the source knows
    made_up_ns: int  # up to where samples followed closely

    @property
    def missing(self) -> int:
        return max(round(self.periods), self.lost)


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
        self._last: dict[str, _Gap] = {}

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
        times = np.concatenate([[self._newest.get(key, time_ns[0])], time_ns])
        self._newest[key], self._lost[key] = int(time_ns[-1]), 0
        periods = np.diff(times) * (self._rates_hz[key] / NANOSECONDS)
        odd = (periods > _LATE) | ((periods < _EARLY) & (self._rates_hz[key] > 0))
        odd[0] |= lost > 0
        for index in np.flatnonzero(odd).tolist():
            start_ns, end_ns = times[index : index + 2].tolist()
            lost_here = lost if index == 0 else 0
            if periods[index] > _LATE or lost_here:
                self._begin(_Gap(key, start_ns, end_ns, max(0.0, periods[index] - 1), lost_here, end_ns))
            elif key in self._last:
                self._make_up(self._last[key], start_ns, end_ns, 1 - periods[index])

    @property
    def missing(self) -> dict[str, int]:
        """How many samples are missing, by key, where there are any."""
        missing: dict[str, int] = {}
        for gap in self._found():
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
            for gap in self._found()
        ]

    def _found(self) -> list[_Gap]:
        return [gap for gap in self._gaps if gap.missing]

    def _begin(self, gap: _Gap) -> None:
        last = self._last.get(gap.key)
        if last is not None and last.end_ns == gap.start_ns:
            last.end_ns = last.made_up_ns = gap.end_ns
            last.periods, last.lost = round(last.periods) + gap.periods, last.lost + gap.lost
        else:
            self._last[gap.key] = gap
            self._gaps.append(gap)

    def _make_up(self, gap: _Gap, start_ns: int, end_ns: int, periods: float) -> None:
        """Takes from a gap what a sample that follows upon it makes up for."""
        if gap.made_up_ns == start_ns:
            gap.periods, gap.made_up_ns = gap.periods - periods, end_ns
