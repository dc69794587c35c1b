"""What the metadata of a zarr array (v2 or v3) say of its sizes, codecs and files, read without zarr."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np


def parse_sizes(content: Any, zarr_format: int) -> tuple[tuple[int, ...], tuple[int, ...], np.dtype[Any]]:
    """Returns shape, shape of the largest unit that is decoded at once, and dtype.

    Raises:
        KeyError, TypeError, ValueError, AttributeError, OverflowError: the metadata are not an array's,
            or not of numbers.
    """
    if zarr_format == 2:
        chunks, name = content["chunks"], content["dtype"]
    else:
        chunks, name = content["chunk_grid"]["configuration"]["chunk_shape"], content["data_type"]
    if not isinstance(name, str):
        raise ValueError(f"the dtype {name!r} is not a number's")
    dtype = np.dtype(name)
    if dtype.kind not in "biuf":
        raise ValueError(f"the dtype {name!r} is not a number's")
    shape, chunks = (tuple(int(size) for size in sizes) for sizes in (content["shape"], chunks))
    if not shape or len(shape) != len(chunks) or min(shape) < 0 or min(chunks) < 1 or 0 in shape[1:]:
        raise ValueError(f"the shape {shape} with chunks {chunks} is not allowed")
    return shape, chunks, dtype


def chunk_naming(content: Any, zarr_format: int) -> tuple[str, str]:
    """Returns what the names of chunk files begin with and what stands between their numbers.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: the metadata are not an array's.
    """
    if zarr_format == 2:
        prefix, separator = "", content.get("dimension_separator") or "."
    else:
        encoding = content["chunk_key_encoding"]
        like_v2 = encoding["name"] == "v2"
        separator = (encoding.get("configuration") or {}).get("separator", "." if like_v2 else "/")
        prefix = "" if like_v2 else f"c{separator}"
    if separator not in (".", "/"):
        raise ValueError(f"the separator {separator!r} of chunk names is not allowed")
    return prefix, separator


def row_of_chunk(file: str, naming: tuple[str, str], grid: Sequence[int]) -> int | None:
    """Returns a chunk's place along the rows, ``None`` for a file that is no chunk of the grid."""
    prefix, separator = naming
    parts = file.removeprefix(prefix).split(separator)
    if not file.startswith(prefix) or len(parts) != len(grid) or not all(part.isdecimal() for part in parts):
        return None
    numbers = [int(part) for part in parts if len(part) < 20]
    inside = len(numbers) == len(grid) and all(map(operator.lt, numbers, grid))
    return numbers[0] if inside else None


def first_codec(content: Any) -> str:
    """Returns the codec that decodes a chunk's bytes first: the last that was applied.

    Raises:
        KeyError, TypeError, IndexError: the metadata are not an array's.
    """
    if "codecs" in content:
        return str(content["codecs"][-1]["name"])
    applied = [*(content.get("filters") or []), content["compressor"]]
    return str(next((codec["id"] for codec in reversed(applied) if codec is not None), ""))


def codec_names(content: Any) -> Iterator[str]:
    """Yields the names of all codecs in an array's metadata, nested ones too."""
    for codec in [content.get("compressor"), *(content.get("filters") or []), *(content.get("codecs") or [])]:
        if codec is not None:
            yield from _names_of(codec)


def _names_of(codec: Any) -> Iterator[str]:
    if not isinstance(codec, dict):
        yield repr(codec)
        return
    yield str(codec.get("id") or codec.get("name"))
    configuration = codec.get("configuration") or {}
    for inner in [*(configuration.get("codecs") or []), *(configuration.get("index_codecs") or [])]:
        yield from _names_of(inner)
