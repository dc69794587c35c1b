"""Durable, ordered replacement of files: what makes an episode appear whole or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from robopolicy_datasets.errors import StoreError

_LOCK_POLL_S = 0.05
_SYNC_THREADS = 8  # concurrent fsyncs share journal commits: half the time of one after the other


@contextmanager
def locked(path: Path, *, shared: bool = False, wait_s: float = float("inf")) -> Iterator[None]:
    """Holds the lock file ``path``, which is made where it is missing; a dying process lets it go.

    Args:
        path: of the lock file.
        shared: other holders that share it too are let in; else there is one.
        wait_s: how long to wait for other holders [s].

    Raises:
        BlockingIOError: another one held it all the time.
        OSError: the lock file cannot be written.
    """
    operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if wait_s == float("inf"):
            fcntl.flock(descriptor, operation)
        else:
            _lock_within(descriptor, operation, wait_s)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing would not do, where a forked child has it open too
        os.close(descriptor)


def _lock_within(descriptor: int, operation: int, wait_s: float) -> None:
    until = time.monotonic() + wait_s
    while True:
        try:
            return fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise
            time.sleep(_LOCK_POLL_S)


def commit(staging: Path, files: Mapping[Path, bytes | Path], last: tuple[Path, bytes]) -> None:
    """Replaces ``files`` and then, when all of them are durable, ``last``.

    New content is first written and fsynced in ``staging``, so that a full disk changes nothing. Until
    ``last`` is renamed the replaced files must still serve readers of the state before.

    Args:
        staging: a folder on the same file system, removed at the end and if found left over.
        files: content by path, renamed into place in this order; or the path of a file that has it, which
            lies on the same file system and is durable.
        last: the file whose rename is the commit.

    Raises:
        OSError: something could not be written; what ``last`` publishes is as it was.
    """
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        contents = {**files, last[0]: last[1]}
        durable = {path: content for path, content in contents.items() if isinstance(content, Path)}
        new = {path: content for path, content in contents.items() if not isinstance(content, Path)}
        with ThreadPoolExecutor(_SYNC_THREADS) as pool:
            temporaries = (staging / str(number) for number in range(len(new)))
            durable |= zip(new, pool.map(write_durably, temporaries, new.values()), strict=True)
            for path in files:
                os.replace(durable[path], path)
            list(pool.map(sync_folder, {path.parent for path in files}))
        os.replace(durable[last[0]], last[0])
        sync_folder(last[0].parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Makes the renames in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_error(path: Path, error: OSError) -> StoreError:
    """Builds the error for a store that cannot be written."""
    return StoreError(
        f"The store {path} cannot be written: {error.strerror or error}. It is as it was before. "
        "Free disk space or correct the permissions, then try again."
    )


def write_durably(path: Path, data: bytes) -> Path:
    """Writes a file and fsyncs it; returns ``path``."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return path
