"""The process that reads HDF5 files for ``hdf5_reader.py``; only here is h5py used.

The HDF5 library, given a damaged file, may loop forever or crash. In a process of its own that costs the
import an error message and no more: a timer that the system keeps ends the process where an answer takes too
long, and its memory is limited. Requests and answers are lines of JSON; the bytes of rows
follow the line that announces them.

Also here, before a dataset is read: links, external files, types and filters are refused that could lead out
of the file or run code, and sizes that what is stored cannot fill.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    import h5py

_MEMORY_BYTES = 4 << 30  # address space, of which the libraries take about one
_MAX_CHUNK_BYTES = 256 << 20
_MAX_OBJECTS = 100_000
_MAX_ATTRIBUTE_BYTES = 16 << 20
_MAX_DEFLATION = 1100  # decoded bytes a stored byte; deflate makes 1032 at most
_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}
_A_LINK = "it is a link; write the data itself in its place"
_ERRORS = (
    *(OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError),
    *(AttributeError, OverflowError, IndexError),
)


class _File:
    """The open file and what is asked of it."""

    def __init__(self) -> None:
        import h5py

        self._h5 = h5py
        self._file: h5py.File | None = None

    def open(self, path: str) -> dict[str, Any]:
        """Opens a file in place of the one before."""
        if self._file is not None:
            self._file.close()
        self._file = self._h5.File(path, "r")
        return {}

    def describe(self, group: str, depth: int, attributes: Sequence[str]) -> dict[str, Any]:
        """Describes a group: the attributes asked for, its direct groups, and the arrays ``depth`` down."""
        where = self._walk(group)
        if not isinstance(where, self._h5.Group):
            raise ValueError(f"'{group}' is not a group")
        found = {name: _attribute(where, name) for name in attributes if name in where.attrs}
        groups: list[str] = []
        arrays: dict[str, Any] = {}
        for name, item in self._members(where, depth):
            if len(groups) + len(arrays) >= _MAX_OBJECTS:
                raise ValueError(f"'{group}' holds more than {_MAX_OBJECTS} objects")
            if isinstance(item, self._h5.Group):
                groups.append(name)
            else:
                arrays[name] = item if isinstance(item, dict) else _described(item)
        return {"attributes": found, "groups": groups, "arrays": arrays}

    def read(self, array: str, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Reads rows of an array."""
        dataset = self._walk(array)
        if not isinstance(dataset, self._h5.Dataset) or "problem" in _described(dataset):
            raise ValueError(f"'{array}' is not an array that is read")
        rows = np.ascontiguousarray(dataset[start:stop])
        return rows.astype(rows.dtype.newbyteorder("="), copy=False)

    def _walk(self, name: str) -> Any:
        """Goes to an object by hard links, which cannot leave the file."""
        if self._file is None:
            raise ValueError("no file is open")
        item: Any = self._file
        for part in filter(None, name.split("/")):
            if not isinstance(item.get(part, getlink=True), self._h5.HardLink):
                raise ValueError(f"'{name}': {_A_LINK}")
            item = item[part]
        return item

    def _members(self, group: h5py.Group, depth: int, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """Yields the groups directly below by name, and arrays, or the problem of a link, to ``depth``."""
        for name in group:
            path = f"{prefix}{name}"
            if not isinstance(group.get(name, getlink=True), self._h5.HardLink):
                yield path, {"problem": _A_LINK}
                continue
            item = group[name]
            if isinstance(item, self._h5.Group):
                if not prefix:
                    yield name, item
                if depth > 1:
                    inside = self._members(item, depth - 1, f"{path}/")
                    yield from (entry for entry in inside if not isinstance(entry[1], self._h5.Group))
            elif isinstance(item, self._h5.Dataset) and depth > 0:
                yield path, item


def main() -> None:
    """Answers requests until there are no more; the first argument says in how many seconds each."""
    answer_seconds = int(sys.argv[1])
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends the process, in the midst of C code too
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    file = _File()
    answers: dict[str, Callable[..., Any]] = {"open": file.open, "describe": file.describe, "read": file.read}
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    for line in sys.stdin.buffer:
        name, arguments = json.loads(line)
        signal.alarm(answer_seconds)
        try:
            answer = answers[name](**arguments)
        except _ERRORS as error:
            answer = {"error": str(error) or type(error).__name__}
        signal.alarm(0)
        _send(output, answer)


def _send(output: BinaryIO, answer: Any) -> None:
    rows = memoryview(b"")
    if isinstance(answer, np.ndarray):
        rows = answer.reshape(-1).view(np.uint8).data
        answer = {"bytes": len(rows)}
    for data in (memoryview(json.dumps(answer).encode() + b"\n"), rows):
        while data:
            data = data[output.write(data) or 0 :]


def _attribute(group: h5py.Group, name: str) -> Any:
    size = group.attrs.get_id(name).get_storage_size()
    if size > _MAX_ATTRIBUTE_BYTES:
        raise ValueError(f"the attribute '{name}' has {size} bytes; at most {_MAX_ATTRIBUTE_BYTES} are read")
    value = group.attrs[name]
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode()
    if not isinstance(value, str | bool | int | float):
        raise ValueError(f"the attribute '{name}' is a {type(value).__name__}, not a text or a number")
    return value


def _described(dataset: h5py.Dataset) -> dict[str, Any]:
    """Returns shape, dtype and rows of a chunk, or the problem for which a dataset is not read."""
    problem = _problem(dataset)
    if problem:
        return {"problem": problem}
    chunk_rows = dataset.chunks[0] if dataset.chunks else 1
    return {"shape": dataset.shape, "dtype": dataset.dtype.newbyteorder("=").str, "chunk_rows": chunk_rows}


def _problem(dataset: h5py.Dataset) -> str:
    shape, dtype = dataset.shape, dataset.dtype
    if dtype.kind not in "biufS" or dtype.itemsize == 0:
        return f"it holds {dtype}, not numbers"
    if not shape or 0 in shape[1:]:
        return f"it has the shape {shape}; expected is one row a step"
    if dataset.external or dataset.is_virtual:
        return "its data lie in other files; copy them into one, e.g. with h5repack"
    settings = dataset.id.get_create_plist()
    filters = [settings.get_filter(number)[0] for number in range(settings.get_nfilters())]
    if not set(filters) <= set(_FILTERS) or len(set(filters)) < len(filters):
        allowed = ", ".join(_FILTERS.values())
        return f"it uses the filters {filters}; allowed are {allowed}, each once. Use h5repack"
    return _size_problem(dataset)


def _size_problem(dataset: h5py.Dataset) -> str:
    """Compares the declared shape with what is stored."""
    total = math.prod(dataset.shape) * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    if stored > dataset.file.id.get_filesize() or total > stored * _MAX_DEFLATION:
        return f"it declares {total} bytes but {stored} are stored: never written, or damaged"
    if dataset.chunks is None:
        return "" if total == stored else f"it declares {total} bytes but {stored} are stored; it is damaged"
    chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize
    if chunk > _MAX_CHUNK_BYTES:
        return f"its chunks have {chunk} bytes; at most {_MAX_CHUNK_BYTES} are read. Use h5repack"
    needed = math.prod(-(-size // part) for size, part in zip(dataset.shape, dataset.chunks, strict=True))
    found = dataset.id.get_num_chunks()
    return "" if found >= needed else f"{needed - found} of its {needed} chunks were never written"
