"""A loop with absolute deadlines on the monotonic clock.

Two things make it punctual: the kernel's default timer slack (50 us) is set to 1 ns, and, where the
system allows it, the thread runs under SCHED_FIFO, which is what keeps a loop on time on a busy machine.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import time

from robopolicy_datasets.clock import NANOSECONDS, now_ns
from robopolicy_datasets.errors import ConfigError
from robopolicy_drivers.realtime.statistics import LatenessStatistics

logger = logging.getLogger(__name__)

FIFO_PRIORITY = 60
_PR_SET_TIMERSLACK = 29


def set_timer_slack() -> bool:
    """Asks the kernel to wake the calling thread within 1 ns of its timers; returns whether it agreed."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(1), 0, 0, 0) == 0


def request_fifo(priority: int = FIFO_PRIORITY) -> bool:
    """Puts the calling thread under the real-time scheduler SCHED_FIFO, where that is allowed.

    Returns:
        whether it was; if not, a warning says what to do.
    """
    if not hasattr(os, "sched_setscheduler"):
        logger.warning("This system has no SCHED_FIFO; control ticks may be late when the machine is busy.")
        return False
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except OSError as error:
        logger.warning(
            "SCHED_FIFO priority %d was not granted (%s); control ticks may be late on a busy machine. "
            "Allow it with 'ulimit -r %d' or the CAP_SYS_NICE capability.",
            priority,
            error.strerror,
            priority,
        )
        return False
    return True


class DeadlineLoop:
    """Paces a loop: ``while running: loop.wait(); work()``.

    The first ``wait`` returns at once and fixes the grid of deadlines. When the work takes longer than a
    period, the deadlines that it missed are skipped and counted, and the loop is back on its grid.

    Args:
        rate_hz: ticks per second.
        statistics: where lateness is counted; None makes one.
    """

    def __init__(self, rate_hz: float, statistics: LatenessStatistics | None = None) -> None:
        if not rate_hz > 0:
            raise ConfigError(f"The loop rate is {rate_hz} Hz; give a rate above 0.")
        self.period_ns = round(NANOSECONDS / rate_hz)
        self.statistics = LatenessStatistics() if statistics is None else statistics
        self._deadline_ns: int | None = None

    def wait(self) -> int:
        """Sleeps until the next deadline.

        Returns:
            deadlines since the last call: 1, plus those that were skipped.
        """
        if self._deadline_ns is None:
            self._deadline_ns = now_ns()
            self.statistics.add(0)
            return 1
        self._deadline_ns += self.period_ns
        skipped = self._skip_missed()
        remaining_ns = self._deadline_ns - now_ns()
        if remaining_ns > 0:
            time.sleep(remaining_ns / NANOSECONDS)
        self.statistics.add(now_ns() - self._deadline_ns)
        return 1 + skipped

    def restart(self) -> None:
        """Forgets the grid: the next ``wait`` returns at once and counts no lateness for the pause."""
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
