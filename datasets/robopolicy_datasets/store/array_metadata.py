"""What the metadata of a zarr array (v2 or v3) say of its sizes, codecs and files, read without zarr."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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


COMPRESSORS = frozenset({"blosc", "zstd", "zlib", "gzip", "bz2", "lzma", "lz4"})
_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}


@dataclass(frozen=True)
class Encoding:
    """How the chunks of an array are encoded, as far as their decoded size is at stake.

    Attributes:
        compressor: one of ``COMPRESSORS``, or ``""``.
        checksums: checksums of 4 bytes that follow the compressed bytes.
        slots: chunks in a file that is a shard; 0 where each file is a chunk.
        index_first: whether a shard's index lies at its beginning.
        index_checksum: whether a checksum of 4 bytes follows the index.
    """

    compressor: str
    checksums: int = 0
    slots: int = 0
    index_first: bool = False
    index_checksum: bool = False


def parse_encoding(content: Any, chunks: Sequence[int]) -> Encoding:
    """Returns how chunks are encoded.

    Args:
        content: the array's metadata.
        chunks: shape of what one file holds.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: the metadata are not an array's, or a chunk may grow
            more than once when it is decoded.
    """
    if "codecs" not in content:
        applied = [*(content.get("filters") or []), content["compressor"]]
        return _encoding([str(codec["id"]) for codec in applied if codec is not None])
    names = [str(codec["name"]) for codec in content["codecs"]]
    if "sharding_indexed" not in names:
        return _encoding(names)
    settings = content["codecs"][0]["configuration"]
    inner, index = settings["chunk_shape"], settings["index_codecs"]
    if len(names) > 1 or index[:1] != [_LITTLE] or index[1:] not in ([], [{"name": "crc32c"}]):
        raise ValueError("its shards have an index, or are encoded, in a way that is not read")
    if len(inner) != len(chunks) or any(type(part) is not int or part < 1 for part in inner):
        raise ValueError(f"the chunks {inner!r:.40} do not fit the shards {chunks}")
    return replace(
        _encoding([str(codec["name"]) for codec in settings["codecs"]]),
        slots=math.prod(size // part for size, part in zip(chunks, inner, strict=True)),
        index_first=settings.get("index_location", "end") == "start",
        index_checksum=len(index) > 1,
    )


def _encoding(names: Sequence[str]) -> Encoding:
    """Returns how a chunk is encoded by codecs in the order in which they were applied."""
    found = [place for place, name in enumerate(names) if name in COMPRESSORS]
    if len(found) > 1 or "sharding_indexed" in names:
        raise ValueError(f"the codecs {', '.join(names)} are not read together")
    after = names[found[0] + 1 :] if found else ()
    if not set(after) <= {"crc32c"}:
        raise ValueError(f"the codecs {', '.join(after)} are applied to compressed bytes")
    return Encoding(names[found[0]] if found else "", checksums=len(after))


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
