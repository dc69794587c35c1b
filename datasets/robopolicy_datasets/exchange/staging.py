"""A new store or data set that appears complete or not at all, however the work that fills it ends."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.spec import Spec
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.store.transaction import sync_folder, write_error


class SourceError(StoreError):
    """What is imported or exported is missing or damaged, or holds what cannot be read."""


@contextmanager
def new_store(
    source: Path, target: str | Path, spec: Spec, *, rate_hz: float, metadata: Mapping[str, Any]
) -> Iterator[DemoStore]:
    """Lends an empty store to be filled; at the end of the ``with`` block it appears at ``target``.

    Args:
        source: what is imported, for messages.
        target: the new store; must not exist.
        spec: of the new store.
        rate_hz: of the new store, steps per second.
        metadata: of the new store.

    Raises:
        StoreError: the target exists or cannot be written; or what the block raised, with the source named.
    """
    with staged(source, target, "import") as staging:
        yield DemoStore.create(staging, spec, rate_hz=rate_hz, metadata=metadata)


@contextmanager
def staged(source: Path, target: str | Path, verb: Literal["import", "export"]) -> Iterator[Path]:
    """Lends a path beside ``target``; what lies there at the end of the ``with`` block appears at ``target``.

    Args:
        source: what is imported or exported, for messages.
        target: must not exist.
        verb: what is done, for messages.

    Raises:
        StoreError: the target exists or cannot be written; or what the block raised, with the source named.
    """
    target = Path(target)
    if target.exists() or target.is_symlink():
        raise StoreError(f"{target} exists already. Choose another target or remove it.")
    _remove_leftovers(target, verb)
    staging = target.with_name(f".{target.name}.{os.getpid()}.{verb}")
    try:
        yield staging
        os.rename(staging, target)
        sync_folder(target.parent)
    except OSError as error:
        raise write_error(target, error) from error
    except StoreError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and not isinstance(error, SourceError):
            raise write_error(target, cause) from error  # its text names the staging folder, which is gone
        raise StoreError(f"{source} cannot be {verb}ed. {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _remove_leftovers(target: Path, verb: str) -> None:
    """Removes what killed imports or exports into ``target`` have left."""
    for folder in target.parent.glob(f".{glob.escape(target.name)}.*.{verb}"):
        process = folder.name.split(".")[-2]
        if process.isdecimal() and not _runs(int(process)):
            shutil.rmtree(folder, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 asks only
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        return True
    return True
