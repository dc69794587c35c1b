"""How long the sections of a loop's cycles take, and which of them are to blame when a cycle overruns.

A cycle goes from its deadline to the end of its work. It consists of the late start, the sections that the
loop names, and the rest. It overruns when the next deadline comes before its end.

The numbers live in one int64 array, which may lie in shared memory: a section costs the loop well below a
microsecond, and another process reads the figures at any time.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import ConfigError

MOST_SECTIONS = 14
_LATE_START, _REST = "late start", "rest"
_NAME_WORDS = 4
_NAME_BYTES = 8 * _NAME_WORDS
# The words of a row after its name. The first row is the cycle; its last word counts overruns.
_TOTAL, _LONGEST, _TOTAL_IN_OVERRUNS, _COUNT = range(_NAME_WORDS, _NAME_WORDS + 4)
_ROW_WORDS = 8
_CYCLES = 0  # in place of the first row's name


@dataclass(frozen=True)
class SectionSummary:
    """Figures of one section.

    Attributes:
        name: as the loop calls it; "late start" and "rest" are there always.
        mean_ms: on average over all cycles [ms].
        max_ms: in the cycle where it took longest [ms].
        mean_in_overruns_ms: on average over the cycles that overran [ms].
        longest_in: how many overruns it was the longest section of.
    """

    name: str
    mean_ms: float
    max_ms: float
    mean_in_overruns_ms: float
    longest_in: int


@dataclass(frozen=True)
class CycleSummary:
    """What a loop's cycles consisted of.

    Attributes:
        cycles: that ended so far.
        overruns: cycles that were still at work when the next deadline came.
        mean_ms, max_ms: from the deadline to the end of the work [ms].
        sections: in the order of a cycle, but for the rest, which comes second.
    """

    cycles: int
    overruns: int
    mean_ms: float
    max_ms: float
    sections: tuple[SectionSummary, ...]

    def report(self) -> str:
        """Returns one sentence on the overruns, and one on each section that was to blame, worst first."""
        lines = [f"{self.overruns} of {self.cycles} cycles overran their period."]
        for section in sorted(self.sections, key=lambda section: -section.longest_in):
            if section.longest_in:
                lines.append(
                    f"'{section.name}' was the longest section of {section.longest_in}: "
                    f"{section.mean_in_overruns_ms:.3g} ms in overruns, {section.mean_ms:.3g} ms on average."
                )
        return "\n".join(lines)


class Section:
    """A part of a cycle, measured by a ``with`` statement; entered again, it goes on counting."""

    __slots__ = ("_begun_ns", "elapsed_ns")

    def __init__(self) -> None:
        self.elapsed_ns = 0
        self._begun_ns = 0

    def __enter__(self) -> None:
        self._begun_ns = now_ns()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.elapsed_ns += now_ns() - self._begun_ns


class SectionStatistics:
    """Collects the times of sections; see the module text.

    Args:
        storage: int64 array ``[SIZE]`` to count in, e.g. in shared memory; None makes one.
    """

    SIZE = _ROW_WORDS * (1 + 2 + MOST_SECTIONS)

    def __init__(self, storage: NDArray[np.int64] | None = None) -> None:
        self._storage = np.zeros(self.SIZE, np.int64) if storage is None else storage
        self._words = self._storage.data
        self._sections: dict[str, Section] = {}
        for row, name in enumerate((_LATE_START, _REST), 1):
            self._set_name(row, name)

    def section(self, name: str) -> Section:
        """Returns the section of a name, for ``with``; take it once, before the loop.

        Sections must not overlap: time that two of them count is missing from the rest.

        Raises:
            ConfigError: the name is too long, or there are too many sections.
        """
        if name not in self._sections:
            if len(self._sections) == MOST_SECTIONS:
                known = ", ".join(self._sections)
                raise ConfigError(
                    f"There are {MOST_SECTIONS} sections already, no room for '{name}': {known}."
                )
            if not 0 < len(name.encode()) <= _NAME_BYTES:
                raise ConfigError(f"A section's name has 1 to {_NAME_BYTES} bytes; given: '{name}'.")
            self._sections[name] = Section()
            self._set_name(2 + len(self._sections), name)
        return self._sections[name]

    def end_cycle(self, late_ns: int, cycle_ns: int, *, overrun: bool) -> None:
        """Counts one cycle and the sections in it.

        Args:
            late_ns: from the deadline to the begin of the work [ns].
            cycle_ns: from the deadline to the end of the work [ns].
            overrun: whether the next deadline has come.
        """
        times = [late_ns, 0, *(section.elapsed_ns for section in self._sections.values())]
        times[1] = cycle_ns - sum(times)
        self.drop_cycle()
        self._words[_CYCLES] += 1
        self._add(0, cycle_ns, overrun, longest=overrun)
        longest_ns = max(times) if overrun else 0
        for row, elapsed_ns in enumerate(times, 1):
            if elapsed_ns > 0:
                self._add(row, elapsed_ns, overrun, longest=elapsed_ns == longest_ns)

    def drop_cycle(self) -> None:
        """Forgets what the sections of the running cycle took."""
        for section in self._sections.values():
            section.elapsed_ns = 0

    def summary(self) -> CycleSummary:
        """Returns the figures so far."""
        table = self._storage.copy().reshape(-1, _ROW_WORDS)
        cycles, overruns = int(table[0, _CYCLES]), int(table[0, _COUNT])
        names = [row[:_NAME_WORDS].tobytes().rstrip(b"\0").decode() for row in table[1:]]
        per_cycle, per_overrun = 1e6 * max(cycles, 1), 1e6 * max(overruns, 1)
        return CycleSummary(
            cycles=cycles,
            overruns=overruns,
            mean_ms=float(table[0, _TOTAL]) / per_cycle,
            max_ms=float(table[0, _LONGEST]) / 1e6,
            sections=tuple(
                SectionSummary(
                    name=name,
                    mean_ms=float(row[_TOTAL]) / per_cycle,
                    max_ms=float(row[_LONGEST]) / 1e6,
                    mean_in_overruns_ms=float(row[_TOTAL_IN_OVERRUNS]) / per_overrun,
                    longest_in=int(row[_COUNT]),
                )
                for name, row in zip(names, table[1:], strict=True)
                if name
            ),
        )

    def _add(self, row: int, elapsed_ns: int, overrun: bool, *, longest: bool) -> None:
        words, first = self._words, row * _ROW_WORDS
        words[first + _TOTAL] += elapsed_ns
        if elapsed_ns > words[first + _LONGEST]:
            words[first + _LONGEST] = elapsed_ns
        if overrun:
            words[first + _TOTAL_IN_OVERRUNS] += elapsed_ns
            words[first + _COUNT] += longest

    def _set_name(self, row: int, name: str) -> None:
        words = np.frombuffer(name.encode().ljust(_NAME_BYTES, b"\0"), np.int64)
        self._storage[row * _ROW_WORDS :][:_NAME_WORDS] = words
