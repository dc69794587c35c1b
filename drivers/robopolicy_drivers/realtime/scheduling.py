"""What a thread can ask of the operating system to be on time; each is granted or warned about.

Three of them matter on every machine: the timer slack (the kernel's default is 50 us), the real-time
scheduler, which keeps a loop on time however busy the machine is, and cores that stay awake, which keeps it
on time however idle the machine is.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from functools import cache
from pathlib import Path

logger = logging.getLogger(__name__)

FIFO_PRIORITY = 60
_PR_SET_TIMERSLACK = 29
_MCL_CURRENT, _MCL_FUTURE = 1, 2
_WAKING_LATENCY = Path("/dev/cpu_dma_latency")
_ISOLATED_CORES = Path("/sys/devices/system/cpu/isolated")


def request_punctuality(priority: int = FIFO_PRIORITY) -> bool:
    """Asks for all that a control thread needs: timer slack, SCHED_FIFO, locked memory, cores awake.

    Returns:
        whether all of it was granted; if not, warnings say what to do.
    """
    granted = [set_timer_slack(), request_fifo(priority), lock_memory(), keep_cores_awake()]
    return all(granted)


def set_timer_slack() -> bool:
    """Asks the kernel to wake the calling thread within 1 ns of its timers; returns whether it agreed."""
    if not sys.platform.startswith("linux"):
        return False
    return _libc().prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(1), 0, 0, 0) == 0


def request_fifo(priority: int = FIFO_PRIORITY, thread: int = 0) -> bool:
    """Puts a thread under the real-time scheduler SCHED_FIFO, where that is allowed.

    Threads and processes that it starts do not inherit it.

    Args:
        priority: 1 to 99.
        thread: the kernel's number of a thread of this process, 0 for the calling one.

    Returns:
        whether it was; if not, a warning says what to do.
    """
    if not hasattr(os, "sched_setscheduler"):
        logger.warning("This system has no SCHED_FIFO; control ticks may be late when the machine is busy.")
        return False
    try:
        os.sched_setscheduler(thread, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
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


def lock_memory() -> bool:
    """Keeps all memory of the process, present and future, from being swapped out.

    Returns:
        whether that was allowed; if not, a warning says what to do.
    """
    if sys.platform.startswith("linux") and _libc().mlockall(_MCL_CURRENT | _MCL_FUTURE) == 0:
        return True
    logger.warning(
        "Locking the memory was not granted (%s); a tick that waits for the swap disk is late. "
        "Allow it with 'ulimit -l unlimited' or the CAP_IPC_LOCK capability.",
        os.strerror(ctypes.get_errno()),
    )
    return False


@cache
def keep_cores_awake() -> bool:
    """Keeps idle cores from sleeping, from which waking takes tens of microseconds, until the process ends.

    They take more power meanwhile, and their fans turn.

    Returns:
        whether that was allowed, or there is nothing to ask for; if not, a warning says what to do.
    """
    if not _WAKING_LATENCY.exists():
        return True
    try:
        request = os.open(_WAKING_LATENCY, os.O_WRONLY | os.O_CLOEXEC)
        os.write(request, bytes(4))  # a latency of 0 us, for as long as the file is open
    except OSError as error:
        logger.warning(
            "Keeping the cores awake was not granted (%s); a tick on an idle machine is some 50 us late. "
            "Allow it with 'sudo setfacl -m u:$USER:w %s'.",
            error.strerror,
            _WAKING_LATENCY,
        )
        return False
    return True


def pin_to_core(core: int | None = None) -> int | None:
    """Keeps the calling thread on one core.

    A thread under SCHED_FIFO moves to a free core by itself, and two that are pinned to one core wait for
    each other. So pin where cores were set aside (the kernel's ``isolcpus=``), one loop to each.

    Args:
        core: which; None for ``quiet_core()``.

    Returns:
        the core, or None, with a warning, where that is not allowed.
    """
    core = quiet_core() if core is None else core
    try:
        os.sched_setaffinity(0, {core})
    except (AttributeError, OSError, ValueError) as error:
        logger.warning("The thread was not kept on core %d (%s); it runs on any core.", core, error)
        return None
    return core


def quiet_core() -> int:
    """Returns the highest core that was set aside for real-time work, else the highest that may be used.

    The highest, because most interrupts and services start on core 0.
    """
    try:
        isolated = parse_cores(_ISOLATED_CORES.read_text())
    except OSError:
        isolated = []
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return max(isolated or usable)


def parse_cores(text: str) -> list[int]:
    """Reads the kernel's list of cores: ``"2-4,7"`` is 2, 3, 4, 7."""
    cores: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cores += range(int(first), int(last or first) + 1)
    return cores


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
