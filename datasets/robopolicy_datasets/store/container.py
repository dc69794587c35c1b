"""The files of a store that others wrote: below a folder, or in a zip that is never unpacked.

Nothing in them is trusted. What may be read is listed once, at opening: regular files whose names and links
stay inside. Each is read whole, and only if its size is within the limits.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.store.pickles import refuse_pickle

MAX_FILE_BYTES = (1 << 30) + (1 << 20)  # a chunk of the largest size, and what a codec may add to it
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_SIGNATURE = b"PK\x03\x04"
_UTF8 = 0x800  # the flag of a name in UTF-8
_MAX_DEFLATION = 1032  # bytes that deflate can make of one
_METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}
_ZIP_ERRORS = (
    *(zipfile.BadZipFile, struct.error, ValueError, RuntimeError),  # with NotImplementedError
    *(EOFError, OverflowError, MemoryError, IndexError),
)


class Container(ABC):
    """The files of one store, by name with ``/`` between its parts.

    Args:
        path: the folder or zip.
        sizes: bytes that each file takes on disk.
    """

    def __init__(self, path: Path, sizes: Mapping[str, int]) -> None:
        self.path = path
        self._top: dict[str, int] = {}
        self._folders: dict[str, dict[str, int]] = {}
        for name, size in sizes.items():
            first, *rest = name.split("/", 2)
            if len(rest) == 2:
                self._folders.setdefault(f"{first}/{rest[0]}", {})[rest[1]] = size
            else:
                self._top[name] = size

    def __contains__(self, name: str) -> bool:
        first, *rest = name.split("/", 2)
        if len(rest) == 2:
            return rest[1] in self._folders.get(f"{first}/{rest[0]}", {})
        return name in self._top

    def top(self) -> list[str]:
        """Returns the files at the top and one level down, sorted, e.g. ``"zarr.json"``."""
        return sorted(self._top)

    def folders(self) -> list[str]:
        """Returns the folders two levels down that hold files, sorted, e.g. ``"data/action"``."""
        return sorted(self._folders)

    def files(self, folder: str) -> Mapping[str, int]:
        """Returns the bytes on disk of each file below a folder such as ``"data/action"``, by name in it."""
        return self._folders.get(folder, {})

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Reads a file.

        Raises:
            StoreError: there is no such file, it is larger than the limit, damaged, or cannot be read.
        """

    def check_names(self) -> None:  # noqa: B027
        """Checks that files are not missing only because their names are damaged, where that can be known.

        Raises:
            StoreError: a name is damaged.
        """


class Folder(Container):
    """A folder. Its regular files are read; pipes, sockets and devices are not.

    Raises:
        StoreError: a link leaves the folder or leads to a folder, or the folder cannot be read.
    """

    def __init__(self, path: Path) -> None:
        try:
            sizes = dict(_regular_files(path))
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}. Correct its permissions.") from error
        super().__init__(path, sizes)

    def read(self, name: str) -> bytes:
        """Reads a file."""
        file = self.path / name
        if name not in self:
            raise StoreError(f"{file} is missing: the store is incomplete. Copy it again.")
        try:
            with file.open("rb") as stream:
                _check_size(file, os.fstat(stream.fileno()).st_size)
                return stream.read(MAX_FILE_BYTES)
        except OSError as error:
            raise StoreError(f"{file} cannot be read: {error.strerror}. Copy the store again.") from error


class Zip(Container):
    """A zip file. It is opened anew for each read, so threads and forked processes share nothing.

    Raises:
        StoreError: it is no zip, damaged, encrypted, or holds names that lead out of it.
    """

    def __init__(self, path: Path) -> None:
        try:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
            on_disk = path.stat().st_size
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror or error}.") from error
        except _ZIP_ERRORS as error:
            refuse_pickle(path)
            raise _damaged(path, error) from error
        if sum(entry.compress_size for entry in entries) > on_disk:
            raise _damaged(path, "its entries overlap, or are larger than the file")
        for entry in entries:
            _check_entry(path, entry)
        self._all = [entry for entry in entries if not entry.is_dir()]
        # Of entries with one name the last counts: zarr appends a file's new content.
        self._entries = {entry.filename: entry for entry in self._all}
        super().__init__(path, {name: entry.compress_size for name, entry in self._entries.items()})

    def read(self, name: str) -> bytes:
        """Reads an entry and checks its name and CRC."""
        label = self.path / name
        if name not in self._entries:
            raise StoreError(f"{label} is missing: the store is incomplete. Copy it again.")
        entry = self._entries[name]
        _check_size(label, entry.file_size)
        try:
            with self.path.open("rb") as stream:
                _skip_header(stream, entry)
                data = stream.read(entry.compress_size)
            if entry.compress_type == zipfile.ZIP_DEFLATED:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, entry.file_size + 1)
        except (OSError, ValueError, struct.error, zlib.error, OverflowError) as error:
            raise _damaged(label, error) from error
        if len(data) != entry.file_size or zlib.crc32(data) != entry.CRC:
            raise _damaged(label, "its size or checksum is wrong")
        return data

    def check_names(self) -> None:
        """Compares the name of each entry in the directory at the end with that before its bytes."""
        try:
            with self.path.open("rb") as stream:
                for entry in self._all:
                    _skip_header(stream, entry)
        except (OSError, ValueError, struct.error, OverflowError) as error:
            raise _damaged(self.path, error) from error


def open_container(path: Path) -> Container:
    """Opens a folder, or else a zip.

    Raises:
        StoreError: as for ``Folder`` and ``Zip``.
    """
    return Folder(path) if path.is_dir() else Zip(path)


def _regular_files(path: Path) -> Iterator[tuple[str, int]]:
    """Yields name and size of the regular files below ``path``."""
    root = path.resolve()
    for folder, folders, files in os.walk(root, onerror=_raise):
        for name in (*folders, *files):
            entry = Path(folder) / name
            if entry.is_symlink():
                if not entry.resolve().is_relative_to(root):
                    raise StoreError(
                        f"{entry} is a link that leaves the store; replace it by the file it points to."
                    )
                if entry.is_dir():
                    raise StoreError(f"{entry} is a link to a folder; replace it by the folder.")
        prefix = os.path.relpath(folder, root).replace(os.sep, "/")
        for name in files:
            try:
                status = os.stat(os.path.join(folder, name))
            except FileNotFoundError:  # a link to nothing
                continue
            if stat.S_ISREG(status.st_mode):
                yield (name if prefix == "." else f"{prefix}/{name}"), status.st_size


def _raise(error: OSError) -> None:
    raise error


def _skip_header(stream: BinaryIO, entry: zipfile.ZipInfo) -> None:
    stream.seek(entry.header_offset)
    signature, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(stream.read(_LOCAL_HEADER.size))
    name = stream.read(name_bytes).decode("utf-8" if entry.flag_bits & _UTF8 else "cp437")
    if signature != _SIGNATURE or name != entry.filename:
        raise ValueError(f"the entry {entry.filename!r} does not lie where the zip's directory says")
    stream.seek(extra_bytes, os.SEEK_CUR)


def _check_entry(path: Path, entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    if not name:
        raise _damaged(path, "an entry has no name")
    if name.startswith("/") or "\\" in name or ".." in name.split("/") or ":" in name.split("/")[0]:
        raise StoreError(f"{path} has the entry {name!r}, whose name leads out of it. Make the zip anew.")
    if name != entry.orig_filename:  # zipfile cuts a name off at a zero byte
        raise _damaged(path, f"the entry {entry.orig_filename!r} has a name that is not possible")
    if entry.flag_bits & 1:
        raise StoreError(f"{path} is encrypted ({name!r}). Make a zip without a password.")
    if entry.compress_type not in _METHODS:
        raise StoreError(
            f"{path} has the entry {name!r} with the zip method {entry.compress_type}; read are "
            f"{' and '.join(_METHODS.values())}. Make the zip anew with one of these."
        )
    stored, size = entry.compress_size, entry.file_size
    is_stored = entry.compress_type == zipfile.ZIP_STORED
    if (size != stored) if is_stored else (size > stored * _MAX_DEFLATION):
        raise _damaged(path, f"the entry {name!r} cannot be {size} bytes: it takes {stored}")


def _check_size(file: Path, size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise StoreError(
            f"{file} has {size} bytes; at most {MAX_FILE_BYTES} are read. Write the array in smaller chunks."
        )


def _damaged(path: Path, error: Exception | str) -> StoreError:
    return StoreError(f"{path} is damaged ({error}). Copy the store again.")
