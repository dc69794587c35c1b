"""Single images as PNG or JPEG bytes."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_LEVEL = 1  # a third larger than the densest, several times faster
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def decode_image(data: bytes, height: int, width: int) -> NDArray[np.uint8]:
    """Decodes an image whose size is known.

    Args:
        data: PNG or JPEG.
        height: in pixels.
        width: in pixels.

    Returns:
        uint8 ``[height, width, 3]``, RGB.

    Raises:
        ValueError: it is something else, of another size, or damaged.
    """
    import cv2

    found = _size_of(data)
    if found != (height, width):  # before the decoder allocates
        raise ValueError(f"an image is {found[0]} x {found[1]}; {height} x {width} is expected")
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ValueError(f"an image cannot be decoded ({error.err})") from error
    if bgr is None or bgr.shape != (height, width, 3):
        raise ValueError("an image cannot be decoded")
    return np.ascontiguousarray(bgr[:, :, ::-1], dtype=np.uint8)


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """Encodes uint8 ``[height, width, 3]``, RGB, without loss."""
    import cv2

    done, data = cv2.imencode(".png", image[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, _PNG_LEVEL])
    if not done:
        raise ValueError("an image cannot be encoded as PNG")
    return bytes(data)


def _size_of(data: bytes) -> tuple[int, int]:
    """Returns height and width as the header says."""
    try:
        if data[:8] == _PNG and data[12:16] == b"IHDR":
            width, height = struct.unpack_from(">II", data, 16)
            return height, width
        if data[:2] == b"\xff\xd8":
            return _jpeg_size(data)
    except struct.error as error:
        raise ValueError("an image is cut off") from error
    raise ValueError("an image is neither PNG nor JPEG")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    position = 2
    while True:
        mark, kind, length = struct.unpack_from(">BBH", data, position)
        if mark != 0xFF:
            raise ValueError("a JPEG image has no header")
        if kind in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", data, position + 5)
            return height, width
        position += 2 + max(length, 2)
