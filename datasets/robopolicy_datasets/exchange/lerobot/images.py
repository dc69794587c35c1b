"""Single images as PNG or JPEG bytes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.store.codecs import decode_jpeg

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_LEVEL = 1  # a third larger than the densest, several times faster
_PNG_PARTS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")  # others say nothing of the pixels that we keep


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
    if not data.startswith(_PNG):
        image = np.empty((height, width, 3), np.uint8)
        decode_jpeg(data, image)
        return image
    parts = [part for part in _png_parts(data) if part[4:8] in _PNG_PARTS]
    if [part[4:8] for part in parts].count(b"IHDR") != 1 or parts[0][4:8] != b"IHDR":
        raise ValueError("an image does not say its size, or more than once")
    found_width, found_height = struct.unpack_from(">II", parts[0], 8)
    if (found_height, found_width) != (height, width):  # before the decoder allocates
        raise ValueError(f"an image is {found_height} x {found_width}; {height} x {width} is expected")
    return _decode_png(_PNG + b"".join(parts), height, width)


def _png_parts(data: bytes) -> Iterator[bytes]:
    """Yields the chunks of a PNG image; OpenCV would believe any length and overlook a wrong checksum.

    Raises:
        ValueError: a chunk is cut off, or its checksum is wrong.
    """
    place = len(_PNG)
    while place < len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        part = data[place : place + size + 12]
        if len(part) < size + 12:
            raise ValueError("an image is cut off")
        if zlib.crc32(part[4:-4]) != int.from_bytes(part[-4:], "big"):
            raise ValueError("an image is damaged: the checksum of a part is wrong")
        yield part
        place += len(part)


def _decode_png(data: bytes, height: int, width: int) -> NDArray[np.uint8]:
    import cv2

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
