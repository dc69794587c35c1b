"""Sleeping until another process changes a word of shared memory, and waking all who sleep.

This is Linux's futex: the kernel compares the word and puts the caller to sleep in one step, so no change is
missed, any number of threads and processes may wait, and whoever wakes them never waits. Nothing is left
behind by a process that is killed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
import time
from collections.abc import Callable

from robopolicy_datasets.clock import NANOSECONDS, now_ns

_WAKE, _WAIT_UNTIL = 1, 9  # FUTEX_WAKE; FUTEX_WAIT_BITSET, which takes an absolute monotonic time
_EVERYBODY = 2**31 - 1
_ANY_BIT = 2**32 - 1
_EXPECTED = (errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT)  # changed already, a signal, too late
# The call's number (Linux: asm/unistd_64.h and asm-generic/unistd.h) on 64-bit little-endian processors.
_NUMBERS = {"x86_64": 202, "aarch64": 98, "riscv64": 98}
_NUMBER = (
    _NUMBERS.get(platform.machine()) if sys.platform.startswith("linux") and sys.maxsize > 2**32 else None
)
_POLL_S = 0.001  # between two looks where there is no futex


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def _system_call(library: ctypes.CDLL) -> Callable[..., int]:
    call = library.syscall
    call.argtypes = (
        *(ctypes.c_long, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32),
        *(ctypes.POINTER(_Timespec), ctypes.c_void_p, ctypes.c_uint32),
    )
    call.restype = ctypes.c_long
    return call


if _NUMBER is not None:
    _sleep = _system_call(ctypes.CDLL(None, use_errno=True))
    # Waking takes no time: giving up the interpreter's lock for it could only make the writer wait.
    _wake = _system_call(ctypes.PyDLL(None))


def wait(address: int, value: int, deadline_ns: int) -> None:
    """Sleeps while the word has a value, until somebody calls ``wake``, a signal comes or the time is up.

    It may also return early; look again at what you wait for.

    Args:
        address: of an unsigned 32-bit word in memory that is shared.
        value: what the word was when it was last looked at.
        deadline_ns: when to return at the latest [ns, monotonic].

    Raises:
        OSError: the kernel refuses the call.
    """
    if _NUMBER is None:
        time.sleep(min(_POLL_S, max(0.0, (deadline_ns - now_ns()) / NANOSECONDS)))
        return
    until = _Timespec(*divmod(deadline_ns, NANOSECONDS))
    if _sleep(_NUMBER, address, _WAIT_UNTIL, value, until, None, _ANY_BIT) != 0:
        code = ctypes.get_errno()
        if code not in _EXPECTED:
            raise OSError(code, os.strerror(code))


def wake(address: int) -> None:
    """Wakes all threads of all processes that ``wait`` for the word at ``address``."""
    if _NUMBER is not None:
        _wake(_NUMBER, address, _WAKE, _EVERYBODY, None, None, 0)
