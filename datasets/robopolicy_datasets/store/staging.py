"""A new store or data set that appears complete or not at all, however the work that fills it ends."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.store.transaction import sync_folder, write_error


@contextmanager
def new_store(
    source: str | Path,
    target: str | Path,
    spec: Spec,
    *,
    rate_hz: float,
    metadata: Mapping[str, Any],
    codecs: Mapping[str, str] | None = None,
    streams: Sequence[Feature] = (),
    done: str = "imported",
) -> Iterator[DemoStore]:
    """Lends an empty store to be filled; at the end of the ``with`` block it appears at ``target``.

    Args:
        source: what the content comes from, for messages.
        target: the new store; must not exist.
        spec: of the new store.
        rate_hz: of the new store, steps per second.
        metadata: of the new store.
        codecs: of the new store.
        streams: of the new store.
        done: what is done to the source, for messages.

    Raises:
        StoreError: the target exists or cannot be written; or what the block raised, with the source named.
    """
    with staged(source, target, done) as staging:
        yield DemoStore.create(
            staging, spec, rate_hz=rate_hz, metadata=metadata, codecs=codecs, streams=streams
        )


@contextmanager
def staged(source: str | Path, target: str | Path, done: str) -> Iterator[Path]:
    """Lends a path beside ``target``; what lies there at the end of the ``with`` block appears at ``target``.

    Args:
        source: what the content comes from, for messages.
        target: must not exist.
        done: what is done to the source, for messages.

    Raises:
        StoreError: the target exists or cannot be written; or what the block raised, with the source named.
    """
    target = Path(target)
    if target.exists() or target.is_symlink():
        raise StoreError(f"{target} exists already. Choose another target or remove it.")
    _remove_leftovers(target)
    staging = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        yield staging
        os.rename(staging, target)
        sync_folder(target.parent)
    except OSError as error:
        raise write_error(target, error) from error
    except StoreError as error:
        if isinstance(error.__cause__, OSError) and str(staging) in str(error):  # which is gone by then
            raise write_error(target, error.__cause__) from error
        raise StoreError(f"{source} cannot be {done}. {error}") from error
    finally:
        _remove(staging)


def sync_files(path: Path) -> None:
    """Makes a file, or everything in a folder, durable.

    Raises:
        OSError: it cannot be written.
    """
    for folder, _, names in os.walk(path, topdown=False):
        for name in names:
            _sync_file(Path(folder) / name)
        sync_folder(Path(folder))
    if path.is_file():
        _sync_file(path)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Removes a file or a folder, where there is one."""
    shutil.rmtree(path, ignore_errors=True)
    if path.is_file():
        path.unlink()


def _remove_leftovers(target: Path) -> None:
    """Removes what killed imports, exports and copies into ``target`` have left."""
    name = glob.escape(target.name)
    for pattern in (f".{name}.*.partial", f"..{name}.*.partial.*.new"):  # the second: a store's creation
        for path in target.parent.glob(pattern):
            process = path.name.split(".")[-2]
            if process.isdecimal() and not _runs(int(process)):
                _remove(path)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 asks only
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        return True
    return True
