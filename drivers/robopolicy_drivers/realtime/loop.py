"""A loop with absolute deadlines on the monotonic clock.

What makes it punctual besides, its thread asks for: see ``scheduling``.
"""

from __future__ import annotations

import time

from robopolicy_datasets.clock import NANOSECONDS, now_ns
from robopolicy_datasets.errors import ConfigError
from robopolicy_drivers.realtime.sections import SectionStatistics
from robopolicy_drivers.realtime.statistics import LatenessStatistics


class DeadlineLoop:
    """Paces a loop: ``while running: loop.wait(); work()``.

    The first ``wait`` returns at once and fixes the grid of deadlines. When the work takes longer than a
    period, the deadlines that it missed are skipped and counted, and the loop is back on its grid.

    Args:
        rate_hz: ticks per second.
        statistics: where lateness is counted; None makes one.
        sections: where the times of a cycle's sections are counted, if they are.
    """

    def __init__(
        self,
        rate_hz: float,
        statistics: LatenessStatistics | None = None,
        sections: SectionStatistics | None = None,
    ) -> None:
        if not rate_hz > 0:
            raise ConfigError(f"The loop rate is {rate_hz} Hz; give a rate above 0.")
        self.period_ns = round(NANOSECONDS / rate_hz)
        self.statistics = LatenessStatistics() if statistics is None else statistics
        self.sections = sections
        self._deadline_ns: int | None = None
        self._late_ns = 0

    def wait(self) -> int:
        """Ends the running cycle and sleeps until the next deadline.

        Returns:
            deadlines since the last call: 1, plus those that were skipped.
        """
        if self._deadline_ns is None:
            self._deadline_ns = now_ns()
            self._late_ns = 0
            self.statistics.add(0)
            if self.sections is not None:
                self.sections.drop_cycle()
            return 1
        if self.sections is not None:
            cycle_ns = now_ns() - self._deadline_ns
            self.sections.end_cycle(self._late_ns, cycle_ns, overrun=cycle_ns > self.period_ns)
        self._deadline_ns += self.period_ns
        skipped = self._skip_missed()
        remaining_ns = self._deadline_ns - now_ns()
        if remaining_ns > 0:
            time.sleep(remaining_ns / NANOSECONDS)
        self._late_ns = now_ns() - self._deadline_ns
        self.statistics.add(self._late_ns)
        return 1 + skipped

    def restart(self) -> None:
        """Forgets the grid and the cycle: the next ``wait`` returns at once, and the pause counts nowhere."""
        self._deadline_ns = None

    @property
    def deadline_ns(self) -> int:
        """The deadline of the running tick [ns, monotonic]."""
        return now_ns() if self._deadline_ns is None else self._deadline_ns

    def _skip_missed(self) -> int:
        if self._deadline_ns is None:
            return 0
        now = now_ns()
        # A tick that begins less than a period late still serves its own deadline.
        missed = max(0, (now - self._deadline_ns) // self.period_ns)
        for index in range(missed):
            self.statistics.add(now - self._deadline_ns - index * self.period_ns, skipped=True)
        self._deadline_ns += missed * self.period_ns
        return missed
