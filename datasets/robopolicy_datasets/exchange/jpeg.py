"""Images that lie in an array as rows of JPEG bytes, padded with zeros to one length."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.exchange.hdf5_reader import Hdf5Array
from robopolicy_datasets.store.codecs import decode_jpeg, jpeg_size

_BLOCK_BYTES = 32 << 20
_MAX_PIXELS = 1 << 26


class JpegRows:
    """Rows of JPEG bytes ``[T, padded]`` as images ``[T, height, width, 3]``, RGB.

    Args:
        source: uint8 ``[T, padded]``, at least one row.
        lengths: the file's ``compress_len`` ``[cameras, T]`` where it has one, the bytes of each image.

    Raises:
        StoreError: the first row is no JPEG image.
    """

    dtype = "uint8"

    def __init__(self, source: Hdf5Array, lengths: Hdf5Array | None) -> None:
        self._source = source
        self._lengths = lengths
        self.rows = source.rows
        height, width = self._size(source.read(0, 1)[0].tobytes(), 0)
        self.row_shape: tuple[int, ...] = (height, width, 3)
        self.chunk_rows = max(1, _BLOCK_BYTES // (height * width * 3 + source.row_shape[0]))

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Reads and decodes rows ``start`` to ``stop`` (exclusive) as ``[stop - start, height, width, 3]``.

        Raises:
            StoreError: they cannot be read, are cut off, or have another size than the first.
        """
        images = np.empty((stop - start, *self.row_shape), dtype=np.uint8)
        known = self._known_lengths(start, stop)
        for number, row in enumerate(self._source.read(start, stop)):
            step = start + number
            data = row.tobytes().rstrip(b"\0")
            if known is not None and len(data) not in known[:, number]:
                raise self._damaged(step, f"has {len(data)} bytes, which compress_len does not say")
            if self._size(data, step) != self.row_shape[:2] or not data.endswith(b"\xff\xd9"):
                raise self._damaged(step, f"is cut off, or not {self.row_shape[0]} x {self.row_shape[1]}")
            try:
                decode_jpeg(data, images[number])
            except ValueError as error:
                raise self._damaged(step, f"cannot be decoded ({error})") from error
        return images

    def _known_lengths(self, start: int, stop: int) -> NDArray[Any] | None:
        """Returns ``[cameras, stop - start]``; which row is which camera's the file does not say."""
        if self._lengths is None:
            return None
        if len(self._lengths.row_shape) != 1 or self._lengths.row_shape[0] < stop:
            shape = [self._lengths.rows, *self._lengths.row_shape]
            raise StoreError(f"compress_len has the shape {shape}; expected is [cameras, {self.rows}].")
        return self._lengths.read(0, self._lengths.rows)[:, start:stop]

    def _size(self, data: bytes, step: int) -> tuple[int, int]:
        """Returns height and width, of which an image needs no memory yet."""
        try:
            size = jpeg_size(data)
        except ValueError:
            size = (0, 0)
        if not 0 < size[0] * size[1] <= _MAX_PIXELS:
            raise self._damaged(step, f"is no JPEG image of at most {_MAX_PIXELS} pixels")
        return size

    def _damaged(self, step: int, problem: str) -> StoreError:
        return StoreError(
            f"The image in row {step} of '{self._source.name}' in {self._source.reader.path} {problem}. "
            "Copy the file again."
        )


class SwappedRows:
    """Images with red and blue exchanged.

    Args:
        source: images ``[T, height, width, 3]``.
    """

    def __init__(self, source: Any) -> None:
        self._source = source
        self.rows: int = source.rows
        self.row_shape: tuple[int, ...] = source.row_shape
        self.dtype: str = source.dtype
        self.chunk_rows: int = source.chunk_rows

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Reads rows ``start`` to ``stop`` (exclusive) as ``[stop - start, height, width, 3]``.

        Raises:
            StoreError: they cannot be read.
        """
        return self._source.read(start, stop)[..., ::-1]
