"""Decoding of JPEG XL chunks, which UMI's stores hold, into arrays whose shape is known before."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numcodecs
import numpy as np
from numcodecs.abc import Codec
from numpy.typing import NDArray

from robopolicy_datasets.errors import missing_extra

UMI_CODEC = "imagecodecs_jpegxl"


class JpegXl(Codec):
    """A numcodecs codec that only decodes.

    It has an id of its own: under ``imagecodecs_jpegxl`` it would take the place of imagecodecs' codec, with
    which a program may be writing. Knowing the chunk's shape it refuses an image of any other size before
    memory is taken for it.

    Args:
        shape: of a chunk, ``[frames, height, width, channels]`` as a rule.
        dtype: of a chunk.
    """

    codec_id = "robopolicy_jpegxl"

    def __init__(self, shape: Sequence[int], dtype: str) -> None:
        self.shape = list(shape)
        self.dtype = dtype

    def encode(self, buf: Any) -> Any:
        """Is not done: such stores are read only.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("JPEG XL chunks are only read")

    def decode(self, buf: Any, out: Any = None) -> NDArray[Any]:
        """Decodes one chunk.

        Returns:
            An array of the chunk's shape and dtype.

        Raises:
            ValueError: the image has another size, or is not JPEG XL.
            RuntimeError: it is damaged.
        """
        import imagecodecs

        image = np.empty(self.shape, dtype=self.dtype)
        imagecodecs.jpegxl_decode(bytes(buf), numthreads=1, out=image)
        return image


def checked_codec(shape: Sequence[int], dtype: np.dtype[Any]) -> dict[str, Any]:
    """Registers the codec and returns its entry in an array's metadata.

    Args:
        shape: of a chunk.
        dtype: of a chunk.

    Raises:
        MissingExtraError: imagecodecs is not installed.
    """
    if find_spec("imagecodecs") is None:
        raise missing_extra("Reading JPEG XL images", "formats")
    numcodecs.register_codec(JpegXl)
    return JpegXl(shape, dtype.str).get_config()
