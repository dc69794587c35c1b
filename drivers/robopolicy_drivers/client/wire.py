"""Messages as bytes: msgpack, with numpy arrays as openpi's client and server write them.

An array is a map of four byte-string keys: ``__ndarray__`` (true), ``data`` (its bytes in C order), ``dtype``
(as in numpy's ``dtype.str``) and ``shape``; a numpy scalar has ``__npgeneric__`` and no shape. Ours alone is
``__jpeg__``: ``data`` is a list of JPEG images, ``shape`` is that of the stack ``[..., height, width, 3]``.
Types and sizes are checked before anything is allocated, and nothing in a message can name code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgpack  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import RemoteError

MOST_DIMENSIONS = 8
MOST_ENTRIES = 4096  # of a list or a map that is no array
_NUMBERS = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
_ARRAY, _SCALAR, _JPEG = b"__ndarray__", b"__npgeneric__", b"__jpeg__"


@dataclass(frozen=True)
class JpegImages:
    """Images to be sent as JPEG.

    Attributes:
        images: uint8 ``[..., height, width, 3]``, RGB.
        quality: from 1 to 100.
    """

    images: NDArray[np.uint8]
    quality: int


def pack(message: Mapping[str, Any]) -> bytes:
    """Returns a message as bytes.

    Args:
        message: texts, numbers, lists and maps of them, arrays of numbers, ``JpegImages``.

    Raises:
        RemoteError: something in it cannot be sent.
    """
    try:
        return bytes(msgpack.packb(message, default=_to_plain))
    except (TypeError, ValueError, OverflowError) as error:
        raise RemoteError(f"The message cannot be sent: {error}.") from error


def unpack(data: bytes, *, most_bytes: int) -> dict[str, Any]:
    """Reads a message; its arrays are read-only views of ``data``.

    Args:
        data: one message.
        most_bytes: of the decoded message, JPEG images included.

    Raises:
        RemoteError: it is no message, too large, or holds something other than numbers and texts.
    """
    if len(data) > most_bytes:
        raise RemoteError(f"The message has {len(data)} bytes; allowed are {most_bytes}.")
    reader = _Reader(most_bytes)
    try:
        message = msgpack.unpackb(
            data,
            object_hook=reader.from_plain,
            ext_hook=_no_extension,
            max_array_len=MOST_ENTRIES,
            max_map_len=MOST_ENTRIES,
        )
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        detail = str(error) or type(error).__name__
        raise RemoteError(
            f"The message is not msgpack that can be read ({detail}). Send a msgpack map."
        ) from error
    if not isinstance(message, dict) or not all(isinstance(key, str) for key in message):
        raise RemoteError(f"The message is a {type(message).__name__}; send a msgpack map with text keys.")
    return message


def _to_plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        _check_dtype(value.dtype.str)
        content = np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
        return {_ARRAY: True, b"data": content, b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        _check_dtype(value.dtype.str)
        return {_SCALAR: True, b"data": value.item(), b"dtype": value.dtype.str}
    if isinstance(value, JpegImages):
        return {_JPEG: True, b"data": list(_encoded(value)), b"shape": value.images.shape}
    raise TypeError(f"{type(value).__name__} is neither a number, a text, an array nor a list or map of them")


def _encoded(value: JpegImages) -> Iterable[bytes]:
    from simplejpeg import encode_jpeg

    height, width, channels = value.images.shape[-3:]
    for image in np.ascontiguousarray(value.images).reshape(-1, height, width, channels):
        yield encode_jpeg(image, quality=value.quality, colorspace="RGB", colorsubsampling="420")


class _Reader:
    """Turns msgpack's maps into arrays and counts the bytes that decoding adds."""

    def __init__(self, most_bytes: int) -> None:
        self.left = most_bytes

    def from_plain(self, value: dict[Any, Any]) -> Any:
        for marker, read in ((_ARRAY, _array), (_SCALAR, _scalar), (_JPEG, self._images)):
            if marker in value:
                return read(value)
        return value

    def _images(self, value: Mapping[bytes, Any]) -> NDArray[np.uint8]:
        from simplejpeg import decode_jpeg, decode_jpeg_header

        shape = _shape(value)
        encoded = value.get(b"data")
        if len(shape) < 3 or shape[-1] != 3 or not isinstance(encoded, list):
            raise RemoteError(f"JPEG images have the shape [..., height, width, 3]; given: {list(shape)}.")
        if len(encoded) != math.prod(shape[:-3]) or not all(isinstance(data, bytes) for data in encoded):
            raise RemoteError(f"The message has {len(encoded)} JPEG images for the shape {list(shape)}.")
        self.left -= math.prod(shape)
        if self.left < 0:
            raise RemoteError(
                f"JPEG images of the shape {list(shape)} exceed the size allowed for a message."
            )
        try:
            if any(tuple(decode_jpeg_header(data)[:2]) != shape[-3:-1] for data in encoded):
                raise RemoteError(f"A JPEG image has another size than the shape {list(shape)} says.")
            images = np.empty((len(encoded), *shape[-3:]), np.uint8)
            for data, image in zip(encoded, images, strict=True):
                decode_jpeg(data, "RGB", buffer=image)
        except ValueError as error:
            raise RemoteError(f"A JPEG image cannot be decoded: {error}.") from error
        return images.reshape(shape)


def _array(value: Mapping[bytes, Any]) -> NDArray[Any]:
    dtype, shape, data = _dtype(value), _shape(value), value.get(b"data")
    if not isinstance(data, bytes) or len(data) != math.prod(shape) * dtype.itemsize:
        given = len(data) if isinstance(data, bytes) else type(data).__name__
        raise RemoteError(f"An array {dtype.name}{list(shape)} came with {given} bytes.")
    return np.frombuffer(data, dtype).reshape(shape)


def _scalar(value: Mapping[bytes, Any]) -> Any:
    dtype, number = _dtype(value), value.get(b"data")
    if not isinstance(number, bool | int | float):
        raise RemoteError(f"A {dtype.name} came as {type(number).__name__}; send a number.")
    return dtype.type(number)


def _dtype(value: Mapping[bytes, Any]) -> np.dtype[Any]:
    name = value.get(b"dtype")
    _check_dtype(name)
    return np.dtype(name)


def _check_dtype(name: Any) -> None:
    if not isinstance(name, str) or not _NUMBERS.fullmatch(name):
        raise RemoteError(f"An array has the dtype {name!r}; allowed are bool, (u)int8-64 and float16-64.")


def _shape(value: Mapping[bytes, Any]) -> tuple[int, ...]:
    shape = value.get(b"shape")
    if (
        not isinstance(shape, list)
        or len(shape) > MOST_DIMENSIONS
        or not all(type(size) is int and 0 <= size < 1 << 31 for size in shape)
    ):
        raise RemoteError(f"An array has the shape {shape!r}; it has at most {MOST_DIMENSIONS} sizes.")
    return tuple(shape)


def _no_extension(code: int, data: bytes) -> Any:
    raise RemoteError(f"The message has msgpack extension {code}; send numbers, texts, arrays, lists, maps.")
