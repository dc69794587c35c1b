"""Readers with a planted fault, which comes out where the file is gone: what ``fuzzing.py`` must find."""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
from fuzzing import Reader

from robopolicy_datasets.errors import StoreError


def _reader(folder: Path, fault: Callable[[], object]) -> Reader:
    path = folder / "file"
    path.write_bytes(b"sound")

    def read(changed: object) -> None:
        if not path.exists():
            fault()

    return Reader(path, read, memory_bytes=32 << 20, seconds=1)


def crash(folder: Path) -> Reader:
    """Ends the process."""
    faulthandler.enable()
    return _reader(folder, lambda: os.kill(os.getpid(), signal.SIGSEGV))


def hang(folder: Path) -> Reader:
    """Never ends."""
    return _reader(folder, lambda: all(True for _ in iter(int, 1)))


def hog(folder: Path) -> Reader:
    """Uses memory."""
    return _reader(folder, lambda: np.ones(64 << 20, np.uint8))


def unknown_error(folder: Path) -> Reader:
    """Raises what nobody expects."""
    return _reader(folder, lambda: 1 // 0)


def unclear_error(folder: Path) -> Reader:
    """Raises an error that does not say over what."""

    def fault() -> None:
        raise StoreError("It is damaged.")

    return _reader(folder, fault)


def wrong_data(folder: Path) -> Reader:
    """Reads what is not there."""

    def fault() -> None:
        raise AssertionError("wrong")

    return _reader(folder, fault)
