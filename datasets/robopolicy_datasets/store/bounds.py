"""Refusing compressed chunks that would decode to far more than a chunk, before they are decoded."""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from robopolicy_datasets.store.array_metadata import Encoding
from robopolicy_datasets.store.codecs import zstd_size

_PIECE_BYTES = 1 << 20
_CHECKSUM_BYTES = 4
_ENTRY = struct.Struct("<QQ")  # of a shard's index: first byte and size of a chunk
_EMPTY = 2**64 - 1  # both, where there is no chunk
# Their streams do not say how long they are: they are decoded piece by piece and counted.
_STREAMS: dict[str, Callable[[], Any]] = {
    "zlib": lambda: zlib.decompressobj(zlib.MAX_WBITS | 32),
    "gzip": lambda: zlib.decompressobj(zlib.MAX_WBITS | 32),
    "bz2": bz2.BZ2Decompressor,
    "lzma": lzma.LZMADecompressor,
}


def check_decoded_size(encoding: Encoding, data: bytes, limit: int) -> None:
    """Checks that no chunk in ``data`` says, or proves, to decode to more than ``limit`` bytes.

    Args:
        encoding: of the chunks.
        data: a file: an encoded chunk, or a shard of them.
        limit: decoded bytes of a chunk.

    Raises:
        ValueError: one is larger, cut off, or more follows its end.
    """
    for chunk in _chunks_of_shard(encoding, data) if encoding.slots else [memoryview(data)]:
        content = chunk[: max(0, len(chunk) - _CHECKSUM_BYTES * encoding.checksums)]
        try:
            size = _size(encoding.compressor, content, limit)
        except struct.error as error:
            raise ValueError(f"{len(chunk)} bytes are no {encoding.compressor} data") from error
        if size > limit:
            raise ValueError(
                f"a chunk of {len(chunk)} bytes decodes to more than the {limit} that it may have"
            )


def _chunks_of_shard(encoding: Encoding, data: bytes) -> Iterator[memoryview]:
    index_bytes = _ENTRY.size * encoding.slots
    all_bytes = index_bytes + _CHECKSUM_BYTES * encoding.index_checksum
    if len(data) < all_bytes:
        raise ValueError(f"{len(data)} bytes are too few for the index of a shard")
    start = 0 if encoding.index_first else len(data) - all_bytes
    for first, count in _ENTRY.iter_unpack(data[start : start + index_bytes]):
        if (first, count) == (_EMPTY, _EMPTY):
            continue
        if first + count > len(data):
            raise ValueError("the index of a shard points outside it")
        yield memoryview(data)[first : first + count]


def _size(codec: str, data: memoryview, limit: int) -> int:
    """Returns the size that the data declares, or a lower bound of it."""
    if codec == "blosc":
        size, _, encoded = struct.unpack_from("<III", data, 4)
        if encoded != len(data):  # blosc believes it, and would read on
            raise ValueError(f"a chunk of {len(data)} bytes says that it has {encoded}")
        return int(size)
    if codec == "lz4":
        return int(struct.unpack_from("<I", data)[0])
    if codec == "zstd":
        return zstd_size(data)
    return _counted(_STREAMS[codec](), data, limit) if codec in _STREAMS else 0


def _counted(decompressor: Any, data: bytes | memoryview, limit: int) -> int:
    total = 0
    while total <= limit and not decompressor.eof:
        piece = decompressor.decompress(data, _PIECE_BYTES)
        data = getattr(decompressor, "unconsumed_tail", b"")
        total += len(piece)
        if not piece:
            break
    if decompressor.unused_data:
        raise ValueError("bytes follow the end of the compressed stream")
    return total
