"""Zarr's chunks of variable-length strings (``vlen-utf8``), compressed with zstd."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numcodecs.zstd import Zstd

from robopolicy_datasets.store.codecs import zstd_size
from robopolicy_datasets.store.layout import LOSSLESS

_MOST_BYTES = 1 << 28  # of one chunk


def parse_object(text: str) -> dict[str, Any]:
    """Parses a text of the store, which is a JSON object.

    Raises:
        ValueError: it is none.
    """
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise ValueError(str(error)) from error
    if not isinstance(content, dict):
        raise ValueError(f"{text[:40]!r} is no JSON object")
    return content


def typed_entries(
    kind: type, content: Mapping[str, Any], types: Mapping[str, tuple[type, ...]]
) -> dict[str, Any]:
    """Returns the entries of ``content`` that ``types`` names; others, of later versions, are ignored.

    Args:
        kind: what is made of them, for messages.
        content: plain data.
        types: those that each entry may have.

    Raises:
        ValueError: an entry is of another type.
    """
    found = {name: value for name, value in content.items() if name in types}
    for name, value in found.items():
        if type(value) not in types[name]:
            raise ValueError(f"{name} of an {kind.__name__} is {value!r:.40}")
    return found


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
