"""Refusing compressed chunks that would decode to far more than a chunk, before they are decoded."""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable
from typing import Any

from robopolicy_datasets.store.codecs import zstd_size

_PIECE_BYTES = 1 << 20
# Their streams do not say how long they are: they are decoded piece by piece and counted.
_STREAMS: dict[str, Callable[[], Any]] = {
    "zlib": lambda: zlib.decompressobj(zlib.MAX_WBITS | 32),
    "gzip": lambda: zlib.decompressobj(zlib.MAX_WBITS | 32),
    "bz2": bz2.BZ2Decompressor,
    "lzma": lzma.LZMADecompressor,
}


def check_decoded_size(codec: str, data: bytes, limit: int) -> None:
    """Checks that ``data`` does not say, or prove, to decode to more than ``limit`` bytes.

    Args:
        codec: numcodecs' id, or zarr v3's name, of what is decoded first; others than blosc, lz4, zstd, zlib,
            gzip, bz2 and lzma are not checked.
        data: an encoded chunk.
        limit: decoded bytes.

    Raises:
        ValueError: it is larger, cut off in its header, or more follows its end.
    """
    try:
        size = _size(codec, data, limit)
    except struct.error as error:
        raise ValueError(f"{len(data)} bytes are no {codec} data") from error
    if size > limit:
        raise ValueError(f"a chunk of {len(data)} bytes decodes to more than the {limit} that it may have")


def _size(codec: str, data: bytes, limit: int) -> int:
    """Returns the size that the data declares, or a lower bound of it."""
    if codec == "blosc":
        return int(struct.unpack_from("<I", data, 4)[0])
    if codec == "lz4":
        return int(struct.unpack_from("<I", data)[0])
    if codec == "zstd":
        return zstd_size(data)
    return _counted(_STREAMS[codec](), data, limit) if codec in _STREAMS else 0


def _counted(decompressor: Any, data: bytes, limit: int) -> int:
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
