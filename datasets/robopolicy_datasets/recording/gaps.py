"""Where samples are missing: counted, and kept as events of the episode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import NANOSECONDS
from robopolicy_datasets.store import Event

_LATE = 1.5  # periods from one sample to the next from which on one is missing,
_EARLY = 0.5  # unless its neighbours follow so closely: then it was late, or those before were early


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
        self._early: dict[str, tuple[int, float]] = {}  # when the newest one came, how many periods early

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
        odd = (periods > _LATE) | ((periods < _EARLY) & (periods > 0))  # 0 is before the first one
        odd[0] |= lost > 0
        for index in np.flatnonzero(odd).tolist():
            start_ns, end_ns = times[index : index + 2].tolist()
            lost_here = lost if index == 0 else 0
            if periods[index] > _LATE or lost_here:
                without = periods[index] - 1 - self._early_by(key, start_ns)
                self._begin(_Gap(key, start_ns, end_ns, max(0.0, without), lost_here, end_ns))
            else:
                self._came_early(key, start_ns, end_ns, 1 - periods[index])

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

    def _came_early(self, key: str, start_ns: int, end_ns: int, periods: float) -> None:
        """Takes what an early sample makes up for from the gap before it; the rest is for one after it."""
        gap = self._last.get(key)
        if gap is not None and gap.made_up_ns == start_ns:
            made_up = min(gap.periods, periods)
            gap.periods, gap.made_up_ns = gap.periods - made_up, end_ns
            periods -= made_up
        self._early[key] = end_ns, periods + self._early_by(key, start_ns)

    def _early_by(self, key: str, time_ns: int) -> float:
        """Returns how many periods early the sample of a time came."""
        early_ns, periods = self._early.get(key, (time_ns, 0.0))
        return periods if early_ns == time_ns else 0.0
