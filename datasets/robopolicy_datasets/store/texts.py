"""Zarr's chunks of variable-length strings (``vlen-utf8``), compressed with zstd."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numcodecs.zstd import Zstd

from robopolicy_datasets.store.codecs import zstd_size
from robopolicy_datasets.store.layout import LOSSLESS

_MOST_BYTES = 1 << 28  # of one chunk


def encode_texts(texts: Sequence[str], slots: int) -> bytes:
    """Encodes a chunk of ``slots`` texts; absent ones are empty."""
    encoded = [text.encode() for text in texts] + [b""] * (slots - len(texts))
    parts = [struct.pack("<I", slots)]
    for text in encoded:
        parts += [struct.pack("<I", len(text)), text]
    return LOSSLESS.encode(np.frombuffer(b"".join(parts), np.uint8))


def decode_texts(data: bytes) -> list[str]:
    """Decodes what ``encode_texts`` wrote.

    Raises:
        ValueError: the bytes are damaged.
    """
    texts = []
    try:
        if zstd_size(data) > _MOST_BYTES:
            raise ValueError(f"it declares {zstd_size(data)} bytes of text; at most {_MOST_BYTES} are read")
        data = bytes(Zstd().decode(data))
        (count,) = struct.unpack_from("<I", data)
        position = 4
        for _ in range(count):
            (size,) = struct.unpack_from("<I", data, position)
            position += 4
            if position + size > len(data):
                raise ValueError("a text is cut off")
            texts.append(data[position : position + size].decode())
            position += size
    except (struct.error, RuntimeError) as error:
        raise ValueError(str(error)) from error
    return texts
