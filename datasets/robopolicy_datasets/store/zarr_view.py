"""One array of a container as zarr sees it: its checked metadata and its chunks, nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

import zarr
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore

from robopolicy_datasets.store.array_metadata import Encoding
from robopolicy_datasets.store.bounds import check_decoded_size
from robopolicy_datasets.store.container import Container


class _Files(Mapping[str, Buffer]):
    """The files of an array, read when they are asked for."""

    def __init__(
        self, container: Container, folder: str, metadata: tuple[str, bytes], encoding: Encoding, limit: int
    ) -> None:
        self._container = container
        self._folder = folder
        self._metadata = metadata
        self._encoding = encoding
        self._limit = limit

    def __getitem__(self, name: str) -> Buffer:
        if name == self._metadata[0]:
            data = self._metadata[1]
        elif name in self:
            data = self._container.read(f"{self._folder}/{name}")
            check_decoded_size(self._encoding, data, self._limit)
        else:
            raise KeyError(name)
        return default_buffer_prototype().buffer.from_bytes(data)

    def __contains__(self, name: object) -> bool:
        return name == self._metadata[0] or (name in self._names and not _is_metadata(str(name)))

    def __iter__(self) -> Iterator[str]:
        yield self._metadata[0]
        yield from (name for name in self._names if not _is_metadata(name))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def _names(self) -> Mapping[str, int]:
        return self._container.files(self._folder)


def open_array(
    container: Container, folder: str, metadata: dict[str, Any], *, encoding: Encoding, limit: int
) -> zarr.Array[Any]:
    """Opens an array for reading.

    Args:
        container: the store's files.
        folder: the array's, e.g. ``"data/action"``.
        metadata: the array's, as it was checked; what the file says by now is not read again.
        encoding: of its chunks.
        limit: decoded bytes of a chunk.

    Raises:
        ValueError, TypeError, RuntimeError: zarr does not understand the metadata.
    """
    zarr_format = metadata["zarr_format"]
    name = ".zarray" if zarr_format == 2 else "zarr.json"
    files = _Files(container, folder, (name, json.dumps(metadata).encode()), encoding, limit)
    store = MemoryStore(cast("Any", files), read_only=True)  # asks for items only: it never writes
    return zarr.open_array(store, mode="r", zarr_format=zarr_format)


def _is_metadata(name: str) -> bool:
    return name.rpartition("/")[2] in (".zarray", ".zattrs", ".zgroup", ".zmetadata", "zarr.json")
