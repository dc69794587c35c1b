"""HDF5 files, read by a process of their own (``hdf5_child.py``): a damaged one does no harm here."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import StoreError, missing_extra
from robopolicy_datasets.store.pickles import refuse_pickle

_BLOCK_BYTES = 32 << 20  # decoded bytes that are asked for at a time
_FAREWELL_SECONDS = 10
_MAX_LINE_BYTES = 64 << 20
_COMMAND = "from robopolicy_datasets.exchange.hdf5_child import main; main()"
_NO_PLUGINS = "::"  # HDF5's word for: load no filter from a library file


@dataclass(frozen=True)
class Hdf5Array:
    """One dataset of the reader's current file.

    Attributes:
        reader: reads it.
        name: its path in the file.
        shape: of the whole, steps first.
        dtype: numpy's name of the element type.
        chunk_rows: rows to read at a time: whole chunks of the file, about 32 MB.
    """

    reader: Hdf5Reader
    name: str
    shape: tuple[int, ...]
    dtype: str
    chunk_rows: int

    @property
    def rows(self) -> int:
        """Steps."""
        return self.shape[0]

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one step."""
        return self.shape[1:]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Reads rows ``start`` to ``stop`` (exclusive) as ``[stop - start, *row_shape]``.

        Raises:
            StoreError: they cannot be read.
        """
        values = np.empty((stop - start, *self.row_shape), dtype=self.dtype)
        self.reader.fill(values, {"array": self.name, "start": start, "stop": stop})
        return values


@dataclass(frozen=True)
class Hdf5Group:
    """What a group holds.

    Attributes:
        attributes: those that were asked for and are there.
        groups: the names of the groups directly in it.
        arrays: the arrays in it and below, by path from the group.
        problems: likewise, what cannot be read, and why.
    """

    attributes: Mapping[str, Any]
    groups: tuple[str, ...]
    arrays: Mapping[str, Hdf5Array]
    problems: Mapping[str, str]


class Hdf5Reader:
    """A process that reads HDF5 files, one at a time; ends with the ``with`` block.

    Args:
        answer_seconds: how long one look or one block of rows may take.

    Raises:
        MissingExtraError: h5py is not installed.
    """

    def __init__(self, *, answer_seconds: int = 60) -> None:
        if find_spec("h5py") is None:
            raise missing_extra("Reading HDF5 files", "formats")
        self.path = Path()
        environment = {**os.environ, "HDF5_PLUGIN_PRELOAD": _NO_PLUGINS, "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _COMMAND, str(answer_seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self._requests = cast("BinaryIO", self._process.stdin)
        self._answers = cast("io.BufferedReader", self._process.stdout)

    def __enter__(self) -> Hdf5Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def open(self, path: Path) -> None:
        """Opens a file in place of the one before, whose arrays cannot be read from then on.

        Raises:
            StoreError: it is no file, or no HDF5 file that can be read.
        """
        self.path = path
        if not path.is_file():
            refuse_pickle(path)
            raise StoreError(f"There is no HDF5 file at {path}. Give the path of one.")
        try:
            self._ask("open", {"path": os.fspath(path.absolute())})
        except StoreError:
            refuse_pickle(path)
            raise

    def group(self, name: str, *, depth: int = 1, attributes: tuple[str, ...] = ()) -> Hdf5Group:
        """Looks into a group of the current file.

        Args:
            name: its path; ``""`` for the file's root.
            depth: levels below it whose arrays are described; 0 for none.
            attributes: the names of those to read.

        Raises:
            StoreError: there is no such group, or the file is damaged.
        """
        content = self._ask("describe", {"group": name, "depth": depth, "attributes": attributes})
        arrays: dict[str, Hdf5Array] = {}
        problems: dict[str, str] = {}
        for key, entry in content["arrays"].items():
            if "problem" in entry:
                problems[key] = entry["problem"]
                continue
            shape, dtype = tuple(entry["shape"]), np.dtype(entry["dtype"])
            row_bytes = math.prod(shape[1:]) * dtype.itemsize
            rows = entry["chunk_rows"]
            rows *= max(1, _BLOCK_BYTES // (row_bytes * rows))
            type_name = dtype.str if dtype.kind == "S" else dtype.name
            arrays[key] = Hdf5Array(self, f"{name}/{key}".lstrip("/"), shape, type_name, rows)
        return Hdf5Group(content["attributes"], tuple(content["groups"]), arrays, problems)

    def fill(self, values: NDArray[Any], rows: Mapping[str, Any]) -> None:
        """Reads the rows of an array into ``values``, C-contiguous and of their size.

        Raises:
            StoreError: they cannot be read.
        """
        size = self._ask("read", rows).get("bytes")
        view = values.reshape(-1).view(np.uint8).data
        if size != len(view):
            raise self._unusable(f"{rows['array']} has {size} bytes where {len(view)} are declared")
        while view:
            count = self._answers.readinto(view)
            if not count:
                raise self._ended()
            view = view[count:]

    def _ask(self, request: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the answer to a request.

        Raises:
            StoreError: the process says that the file is damaged, or ended over it.
        """
        try:
            self._requests.write(json.dumps([request, arguments]).encode() + b"\n")
            self._requests.flush()
            answer: dict[str, Any] = json.loads(self._answers.readline(_MAX_LINE_BYTES))
        except (BrokenPipeError, ValueError) as error:
            raise self._ended() from error
        if "error" in answer:
            raise self._unusable(answer["error"])
        return answer

    def _ended(self) -> StoreError:
        try:
            code = self._process.wait(timeout=_FAREWELL_SECONDS)
        except subprocess.TimeoutExpired:
            return self._unusable("the process that reads it answers what cannot be understood")
        if code == -signal.SIGALRM:
            return self._unusable("reading it does not come to an end")
        return self._unusable(f"the HDF5 library crashes over it, code {code}")

    def _unusable(self, problem: str) -> StoreError:
        return StoreError(f"{self.path} cannot be read: {problem}. Copy the file again, or record it anew.")
