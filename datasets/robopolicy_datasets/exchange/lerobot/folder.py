"""Files of a folder that is not trusted: nothing outside it is opened, nothing absurd is read."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Formatter
from typing import Any

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.store.pickles import refuse_pickle

_MAX_TEXT_BYTES = 256 << 20
_NUMBER_FORMAT = re.compile(r"0?[1-9]?d?")
_COPY_AGAIN = "Copy the data set again."


class Folder:
    """A data set's folder.

    Args:
        root: the folder.

    Raises:
        StoreError: there is no such folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        if not root.is_dir():
            refuse_pickle(root)
            raise StoreError(f"There is no LeRobot data set at {root}: it is a folder with meta/info.json.")
        self._resolved = root.resolve()

    def holds(self, relative: str) -> bool:
        """Whether there is such an entry, of whatever kind."""
        try:
            return (self.root / relative).exists() or (self.root / relative).is_symlink()
        except (OSError, ValueError):  # a name that the file system cannot have
            return False

    def file(self, relative: str) -> Path:
        """Returns the path of a file.

        Raises:
            StoreError: there is no such file, or it lies outside the folder.
        """
        path = self.root / relative
        parts = relative.split("/")
        if relative.startswith("/") or ".." in parts or "\0" in relative or "\\" in relative:
            raise StoreError(
                f"The file name '{relative[:200]}' leaves the data set {self.root}. "
                "Correct the path in meta/info.json."
            )
        try:
            resolved = path.resolve(strict=True)
            is_file = resolved.is_file()
        except FileNotFoundError as error:
            raise StoreError(f"{path} is missing: the data set is incomplete. {_COPY_AGAIN}") from error
        except (OSError, RuntimeError, ValueError) as error:
            raise damaged(path, error) from error
        if not resolved.is_relative_to(self._resolved):
            raise StoreError(
                f"{path} is a link that leaves the data set; replace it by the file it points to (cp -rL)."
            )
        if not is_file:
            raise damaged(path, "it is not a file")
        return path

    def files(self, pattern: str) -> list[str]:
        """Returns the names, relative to the folder and sorted, of the entries that fit a glob pattern."""
        return sorted(path.relative_to(self.root).as_posix() for path in self.root.glob(pattern))

    def read_json(self, relative: str) -> Any:
        """Reads a JSON file.

        Raises:
            StoreError: it is missing, too large or not JSON.
        """
        path, text = self._read_text(relative)
        return _parse(path, text)

    def read_json_lines(self, relative: str) -> Iterator[Any]:
        """Reads a file with one JSON text a line.

        Raises:
            StoreError: as for ``read_json``.
        """
        path, text = self._read_text(relative)
        return (_parse(path, line) for line in text.splitlines() if line.strip())

    def digest(self, relative: str) -> str:
        """Returns the SHA-256 of a file.

        Raises:
            StoreError: it cannot be read.
        """
        path = self.file(relative)
        try:
            with path.open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise damaged(path, error) from error

    def _read_text(self, relative: str) -> tuple[Path, str]:
        path = self.file(relative)
        try:
            size = path.stat().st_size
            if size > _MAX_TEXT_BYTES:
                raise damaged(path, f"it has {size} bytes; at most {_MAX_TEXT_BYTES} are read")
            return path, path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise damaged(path, error) from error


def damaged(path: Path, reason: Any) -> StoreError:
    """Builds the error for a file that cannot be used."""
    text = str(reason).strip().rstrip(".").replace("\n", " ")[:300]
    return StoreError(f"{path} cannot be read: {text or type(reason).__name__}. {_COPY_AGAIN}")


def fill_template(template: str, values: Mapping[str, int | str]) -> str:
    """Fills a path template, such as ``data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet``.

    Args:
        template: not trusted; only plain names with a short number format are filled.
        values: the names that it may use.

    Raises:
        ValueError: it is no such template.
    """
    parts = []
    for literal, name, number_format, conversion in Formatter().parse(template):
        parts.append(literal)
        if name is None:
            continue
        if name not in values or conversion or not _NUMBER_FORMAT.fullmatch(number_format or ""):
            allowed = ", ".join(f"{{{allowed}}}" for allowed in values)
            raise ValueError(f"the path {template[:200]!r} may hold only {allowed}")
        value = values[name]
        parts.append(format(value, number_format or "") if isinstance(value, int) else value)
    return "".join(parts)


def _parse(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged(path, error) from error
