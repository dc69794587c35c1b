"""Bytes of blocks: zstd chunks, zarr v3 shards and zarr's variable-length strings."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from robopolicy_datasets.store.layout import COMPRESSION_LEVEL

_EMPTY = 2**64 - 1
_CHECKSUM_BYTES = 4


def compress(data: NDArray[Any] | bytes) -> bytes:
    """Compresses an array's bytes (C order) or plain bytes into a checksummed zstd frame."""
    return bytes(Zstd(COMPRESSION_LEVEL, checksum=True).encode(data))


def decompress(data: bytes | memoryview, out: NDArray[Any] | None = None) -> bytes:
    """Decompresses a zstd frame, into ``out`` where given.

    Raises:
        ValueError: the frame is damaged or has another size than ``out``.
    """
    try:
        return bytes(Zstd().decode(data)) if out is None else Zstd().decode(data, out)
    except RuntimeError as error:
        raise ValueError(str(error)) from error


def pack_shard(chunks: Sequence[bytes | memoryview], slots: int) -> bytes:
    """Builds a shard of ``slots`` chunks, the first ``len(chunks)`` of them present; index at the end."""
    index = np.full((slots, 2), _EMPTY, dtype="<u8")
    sizes = np.array([len(chunk) for chunk in chunks], dtype="<u8")
    index[: len(chunks), 0] = np.cumsum(sizes) - sizes
    index[: len(chunks), 1] = sizes
    index_bytes = index.tobytes()
    return b"".join([*chunks, index_bytes, struct.pack("<I", google_crc32c.value(index_bytes))])


def unpack_shard(data: bytes, slots: int) -> list[memoryview | None]:
    """Returns the chunks of a shard, ``None`` where one is absent.

    Raises:
        ValueError: the shard is damaged.
    """
    view = memoryview(data)
    index_start = len(data) - 16 * slots - _CHECKSUM_BYTES
    if index_start < 0:
        raise ValueError(f"{len(data)} bytes are too few for an index of {slots} chunks")
    index_bytes = data[index_start:-_CHECKSUM_BYTES]
    if struct.unpack("<I", data[-_CHECKSUM_BYTES:])[0] != google_crc32c.value(index_bytes):
        raise ValueError("the checksum of the shard index is wrong")
    index = np.frombuffer(index_bytes, dtype="<u8").reshape(slots, 2)
    entries = [None if start == _EMPTY else (start, start + size) for start, size in index.tolist()]
    if any(entry is not None and entry[1] > index_start for entry in entries):
        raise ValueError("the shard index points outside the shard")
    return [None if entry is None else view[slice(*entry)] for entry in entries]


def encode_strings(texts: Sequence[str], slots: int) -> bytes:
    """Encodes a chunk of ``slots`` texts (zarr's ``vlen-utf8``); absent ones are empty."""
    encoded = [text.encode() for text in texts] + [b""] * (slots - len(texts))
    parts = [struct.pack("<I", slots)]
    for text in encoded:
        parts += [struct.pack("<I", len(text)), text]
    return b"".join(parts)


def decode_strings(data: bytes) -> list[str]:
    """Decodes what ``encode_strings`` wrote.

    Raises:
        ValueError: the bytes are damaged.
    """
    texts = []
    try:
        (count,) = struct.unpack_from("<I", data)
        position = 4
        for _ in range(count):
            (size,) = struct.unpack_from("<I", data, position)
            position += 4
            if position + size > len(data):
                raise ValueError("a text is cut off")
            texts.append(data[position : position + size].decode())
            position += size
    except struct.error as error:
        raise ValueError(str(error)) from error
    return texts
