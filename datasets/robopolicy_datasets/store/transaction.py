"""Durable, ordered replacement of files: what makes an episode appear whole or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from robopolicy_datasets.errors import StoreError

_SYNC_THREADS = 8  # concurrent fsyncs share journal commits: half the time of one after the other


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Holds the lock of ``folder`` against other writers; a dying process lets it go.

    Raises:
        OSError: the lock file cannot be written.
    """
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def commit(staging: Path, files: Mapping[Path, bytes], last: tuple[Path, bytes]) -> None:
    """Replaces ``files`` and then, when all of them are durable, ``last``.

    New content is first written and fsynced in ``staging``, so that a full disk changes nothing. Until
    ``last`` is renamed the replaced files must still serve readers of the state before.

    Args:
        staging: a folder on the same file system, removed at the end and if found left over.
        files: content by path, renamed into place in this order.
        last: the file whose rename is the commit.

    Raises:
        OSError: something could not be written; what ``last`` publishes is as it was.
    """
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        contents = [*files.values(), last[1]]
        temporaries = [staging / str(number) for number in range(len(contents))]
        with ThreadPoolExecutor(_SYNC_THREADS) as pool:
            list(pool.map(write_durably, temporaries, contents))
            for temporary, path in zip(temporaries, files, strict=False):
                os.replace(temporary, path)
            list(pool.map(sync_folder, {path.parent for path in files}))
        os.replace(temporaries[-1], last[0])
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
