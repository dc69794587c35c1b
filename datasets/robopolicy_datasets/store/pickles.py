"""Pickles are refused by name: reading one may run any code that its writer put in."""

from __future__ import annotations

import io
import pickletools
from pathlib import Path

from robopolicy_datasets.errors import StoreError

_PROTOCOLS = range(2, 6)  # those that begin with a header
_MAX_TEXT_BYTES = 16 << 20  # a longer pickle without a header is known by its name only
_SUFFIXES = (".pickle", ".pkl")


def refuse_pickle(path: Path) -> None:
    """Refuses a pickle, or a folder of them. Called where a path holds nothing else that is read.

    Raises:
        StoreError: it is a pickle, by its content or its name.
    """
    try:
        inside = path.iterdir() if path.is_dir() else ()
        found, *_ = sorted(entry for entry in inside if entry.suffix in _SUFFIXES) or [path]
        if not _is_pickle(found):
            return
    except OSError:
        return
    raise StoreError(
        f"{found} is a pickle, which can run code when it is read; robopolicy does not read it. Convert it "
        "first, away from all that you need and with nothing but arrays allowed: docs/exchange.md, "
        "'Pickles', has a script."
    )


def _is_pickle(path: Path) -> bool:
    if not path.is_file():
        return False
    if path.suffix in _SUFFIXES:
        return True
    with path.open("rb") as stream:
        data = stream.read(_MAX_TEXT_BYTES + 1)
    if len(data) > 1 and data[0] == 0x80:
        return data[1] in _PROTOCOLS
    return 0 < len(data) <= _MAX_TEXT_BYTES and _is_text_pickle(data)


def _is_text_pickle(data: bytes) -> bool:
    """Whether the bytes are operations of a pickle of protocol 0 or 1, which has no header, to the end."""
    stream = io.BytesIO(data)
    try:
        for _ in pickletools.genops(stream):  # names the operations, runs none
            pass
    except (ValueError, IndexError, OverflowError):
        return False
    return stream.tell() == len(data)
