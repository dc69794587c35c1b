"""How one chunk of an array becomes bytes: raw, lz4, zstd or jpeg, each with a checksum.

A codec is named in settings by a text, ``"zstd"`` or, with its number, ``"jpeg:90"``. On disk each is a chain
of zarr v3 codecs, which zarr itself reads too (jpeg through ``zarr_jpeg``, registered by an entry point).
"""

from __future__ import annotations

import math
import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import simplejpeg
from fastcrc.crc32 import iscsi as crc32c
from numcodecs import blosc
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError, nearest_names
from robopolicy_datasets.store.shards import Shard

BYTES_CODEC: Mapping[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
CHECKSUM_CODEC: Mapping[str, Any] = {"name": "crc32c"}
JPEG_CODEC_NAME = "robopolicy.jpeg"
AUTO = "auto"  # in settings: let the first episodes decide, see choose_codec
_CHECKSUM_BYTES = 4
_BLOSC_SIZES_AT = 4  # in blosc's header: decoded size, block size, encoded size
_FLAT_SHARE = 0.25  # lossless frames that small are drawn, not filmed


@dataclass(frozen=True)
class ChunkCodec(ABC):
    """Encodes and decodes chunks.

    Attributes:
        name: in settings.
        level: the codec's number (zstd's level, jpeg's quality); 0 where it has none.
    """

    name: ClassVar[str]
    levels: ClassVar[range] = range(1)
    lossless: ClassVar[bool] = True

    level: int = 0

    @property
    def text(self) -> str:
        """The codec as it is written in settings."""
        return f"{self.name}:{self.level}" if len(self.levels) > 1 else self.name

    @abstractmethod
    def chain(self, item_bytes: int) -> list[Mapping[str, Any]]:
        """Returns the zarr v3 codecs, from array to bytes.

        Args:
            item_bytes: of one array element.
        """

    @abstractmethod
    def encode(self, chunk: NDArray[Any]) -> bytes:
        """Encodes a chunk (little-endian, C order)."""

    @abstractmethod
    def decode(self, data: bytes | memoryview, out: NDArray[Any]) -> None:
        """Decodes a chunk into ``out`` (C-contiguous).

        Raises:
            ValueError: the bytes are damaged or of another size than ``out``.
        """

    def check(self, data: bytes | memoryview) -> None:
        """Compares a chunk with its checksum.

        Raises:
            ValueError: the bytes are damaged.
        """
        _checked(data)

    def load(self, shard: Shard, slot: int, out: NDArray[Any]) -> None:
        """Decodes the chunks of a shard from ``slot`` on, one for each row of ``out [n, *row_shape]``.

        Raises:
            OSError: the shard cannot be read.
            ValueError: a chunk is not there, damaged, or of another size than a row.
        """
        for chunk, row in zip(shard.read(slot, len(out)), out, strict=True):
            self.decode(chunk, row)


@dataclass(frozen=True)
class EncodedRows:
    """Rows that are encoded already, each as a chunk of its own, as image arrays have them.

    Attributes:
        codec: of the chunks.
        chunks: one a row.
        row_shape: the shape of a row.
        data_type: numpy's name of the element type.
    """

    codec: ChunkCodec
    chunks: Sequence[bytes]
    row_shape: tuple[int, ...]
    data_type: str

    def __len__(self) -> int:
        return len(self.chunks)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows when they are decoded."""
        return len(self) * math.prod(self.row_shape) * np.dtype(self.data_type).itemsize

    def decoded(self) -> NDArray[Any]:
        """Returns the rows ``[n, *row_shape]``.

        Raises:
            ValueError: a chunk is damaged.
        """
        rows = np.empty((len(self), *self.row_shape), self.data_type)
        for chunk, row in zip(self.chunks, rows, strict=True):
            self.codec.decode(chunk, row)
        return rows


class RawCodec(ChunkCodec):
    """The array's bytes as they are."""

    name = "raw"

    def chain(self, item_bytes: int) -> list[Mapping[str, Any]]:  # noqa: D102
        return [BYTES_CODEC, CHECKSUM_CODEC]

    def encode(self, chunk: NDArray[Any]) -> bytes:  # noqa: D102
        return _with_checksum(chunk.tobytes())

    def decode(self, data: bytes | memoryview, out: NDArray[Any]) -> None:  # noqa: D102
        content = _checked(data)
        if len(content) != out.nbytes:
            raise ValueError(f"{len(content)} bytes where {out.nbytes} are expected")
        out.reshape(-1).view(np.uint8)[...] = np.frombuffer(content, np.uint8)

    def load(self, shard: Shard, slot: int, out: NDArray[Any]) -> None:  # noqa: D102
        chunks = [(row.data, memoryview(bytearray(_CHECKSUM_BYTES))) for row in out]
        shard.read_into(slot, out[0].nbytes + _CHECKSUM_BYTES, chunks)  # without a copy
        for content, checksum in chunks:
            _check(content, checksum)


class Lz4Codec(ChunkCodec):
    """Blosc with lz4: the fastest compression."""

    name = "lz4"

    def chain(self, item_bytes: int) -> list[Mapping[str, Any]]:  # noqa: D102
        configuration = {
            "typesize": item_bytes,
            "cname": "lz4",
            "clevel": 5,
            "shuffle": "shuffle" if item_bytes > 1 else "noshuffle",
            "blocksize": 0,
        }
        return [BYTES_CODEC, {"name": "blosc", "configuration": configuration}, CHECKSUM_CODEC]

    def encode(self, chunk: NDArray[Any]) -> bytes:  # noqa: D102
        shuffle = blosc.SHUFFLE if chunk.itemsize > 1 else blosc.NOSHUFFLE
        return _with_checksum(blosc.compress(np.ascontiguousarray(chunk), b"lz4", 5, shuffle, 0))

    def decode(self, data: bytes | memoryview, out: NDArray[Any]) -> None:  # noqa: D102
        content = _checked(data)
        try:
            size, _, encoded = struct.unpack_from("<III", content, _BLOSC_SIZES_AT)
            if (size, encoded) != (out.nbytes, len(content)):  # which blosc believes
                raise ValueError(f"{size} decoded bytes where {out.nbytes} are expected, or it is cut off")
            blosc.decompress(content, out)
        except (RuntimeError, struct.error) as error:
            raise ValueError(str(error)) from error


class ZstdCodec(ChunkCodec):
    """Zstandard, with its own checksum: small where images are drawn, not filmed."""

    name = "zstd"
    levels = range(1, 20)

    def chain(self, item_bytes: int) -> list[Mapping[str, Any]]:  # noqa: D102
        return [BYTES_CODEC, {"name": "zstd", "configuration": {"level": self.level, "checksum": True}}]

    def encode(self, chunk: NDArray[Any]) -> bytes:  # noqa: D102
        return bytes(Zstd(self.level, checksum=True).encode(np.ascontiguousarray(chunk)))

    def decode(self, data: bytes | memoryview, out: NDArray[Any]) -> None:  # noqa: D102
        size = zstd_size(data)
        if size != out.nbytes:  # zstd fills a part of a larger buffer without complaint
            raise ValueError(f"{size} decoded bytes where {out.nbytes} are expected")
        try:
            Zstd().decode(data, out)
        except RuntimeError as error:
            raise ValueError(str(error)) from error

    def check(self, data: bytes | memoryview) -> None:  # noqa: D102
        try:
            Zstd().decode(data)
        except RuntimeError as error:
            raise ValueError(str(error)) from error


class JpegCodec(ChunkCodec):
    """JPEG with halved colour resolution, for images ``[..., height, width, 3]``: small, not lossless."""

    name = "jpeg"
    levels = range(1, 101)
    lossless = False

    def chain(self, item_bytes: int) -> list[Mapping[str, Any]]:  # noqa: D102
        return [{"name": JPEG_CODEC_NAME, "configuration": {"quality": self.level}}, CHECKSUM_CODEC]

    def encode(self, chunk: NDArray[Any]) -> bytes:  # noqa: D102
        return _with_checksum(encode_jpeg(chunk, self.level))

    def decode(self, data: bytes | memoryview, out: NDArray[Any]) -> None:  # noqa: D102
        decode_jpeg(_checked(data), out)


CODECS: Mapping[str, type[ChunkCodec]] = {
    codec.name: codec for codec in (RawCodec, Lz4Codec, ZstdCodec, JpegCodec)
}
_DEFAULT_LEVELS = {"zstd": 3, "jpeg": 95}


def parse_codec(text: str) -> ChunkCodec:
    """Returns the codec that ``text`` names, e.g. ``"lz4"`` or ``"jpeg:90"``.

    Raises:
        ConfigError: there is no such codec, or it has no such level.
    """
    name, colon, number = text.partition(":")
    if name not in CODECS:
        options = ", ".join(nearest_names(name, [*CODECS, AUTO]))
        raise ConfigError(f"There is no codec '{text}'. Allowed: {options}, with a level e.g. jpeg:90.")
    codec = CODECS[name]
    level = int(number) if number.isdecimal() else -1
    if not colon:
        level = _DEFAULT_LEVELS.get(name, 0)
    if level not in codec.levels or (colon and len(codec.levels) == 1):
        allowed = f"{codec.levels[0]} to {codec.levels[-1]}" if len(codec.levels) > 1 else "none"
        raise ConfigError(f"The codec '{text}' has no such level. Allowed for {name}: {allowed}.")
    return codec(level)


def codec_of_chain(chain: Sequence[Mapping[str, Any]], item_bytes: int) -> ChunkCodec | None:
    """Returns the codec whose ``chain`` this is; ``None`` if it is none of ours."""
    settings = [value for codec in chain for value in codec.get("configuration", {}).values()]
    for kind in CODECS.values():
        for level in [0, *(value for value in settings if type(value) is int)]:
            if level in kind.levels and kind(level).chain(item_bytes) == list(chain):
                return kind(level)
    return None


def choose_codec(frames: NDArray[np.uint8]) -> ChunkCodec:
    """Chooses a codec by content: zstd for drawn images, jpeg for filmed ones.

    Args:
        frames: some rgb images ``[N, height, width, 3]``.
    """
    zstd = ZstdCodec(_DEFAULT_LEVELS["zstd"])
    size = sum(len(zstd.encode(frame)) for frame in frames)
    return zstd if size <= _FLAT_SHARE * frames.nbytes else JpegCodec(_DEFAULT_LEVELS["jpeg"])


def encode_jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    """Encodes an rgb image; leading axes of size 1 are dropped."""
    height, width, _ = image.shape[-3:]
    pixels = np.ascontiguousarray(image).reshape(height, width, 3)
    return bytes(simplejpeg.encode_jpeg(pixels, quality=quality, colorspace="RGB", colorsubsampling="420"))


def jpeg_size(data: bytes | memoryview) -> tuple[int, int]:
    """Returns height and width of an image, from its header alone.

    Raises:
        ValueError: it is no JPEG image.
    """
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise ValueError("it is no JPEG image that can be read") from error
    return height, width


def decode_jpeg(data: bytes | memoryview, out: NDArray[np.uint8]) -> None:
    """Decodes an rgb image into ``out [..., height, width, 3]``.

    Raises:
        ValueError: the bytes are damaged or of another size.
    """
    height, width = out.shape[-3:-1]
    found = jpeg_size(data)
    if found != (height, width):
        raise ValueError(f"an image of {found[0]} x {found[1]} where {height} x {width} is expected")
    simplejpeg.decode_jpeg(data, "RGB", buffer=out)


def zstd_size(data: bytes | memoryview) -> int:
    """Returns the decoded size that a zstd frame declares (RFC 8878, 3.1.1.1)."""
    descriptor = data[4] if len(data) > 4 else 0
    single = bool(descriptor & 0x20)
    first = 5 + (not single) + (0, 1, 2, 4)[descriptor & 3]
    count = (int(single), 2, 4, 8)[descriptor >> 6]
    return int.from_bytes(data[first : first + count], "little") + (256 if count == 2 else 0)


def _with_checksum(content: bytes) -> bytes:
    return content + struct.pack("<I", crc32c(content))


def _checked(data: bytes | memoryview) -> memoryview:
    """Returns the content before a checksum.

    Raises:
        ValueError: it does not fit.
    """
    view = memoryview(data)
    content = view[:-_CHECKSUM_BYTES]
    _check(content, view[-_CHECKSUM_BYTES:])
    return content


def _check(content: memoryview, checksum: memoryview) -> None:
    if crc32c(content) != int.from_bytes(checksum, "little"):
        raise ValueError("the checksum of a chunk is wrong")
