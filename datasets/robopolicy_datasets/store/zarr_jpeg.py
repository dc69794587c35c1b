"""The jpeg codec of a store for zarr itself, found by its entry point: plain zarr opens such stores.

Nothing of ours imports this module; our own reading does not go through zarr.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer

from robopolicy_datasets.store.codecs import JPEG_CODEC_NAME, decode_jpeg, encode_jpeg


@dataclass(frozen=True)
class ZarrJpegCodec(ArrayBytesCodec):
    """Chunks ``[1, height, width, 3]`` of uint8 as JPEG."""

    is_fixed_size = False
    quality: int = 95

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Reads the codec's metadata."""
        return cls(quality=int(data.get("configuration", {}).get("quality", 95)))

    def to_dict(self) -> dict[str, Any]:
        """Returns the codec's metadata."""
        return {"name": JPEG_CODEC_NAME, "configuration": {"quality": self.quality}}

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Is not known beforehand."""
        raise NotImplementedError

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        image = np.empty(chunk_spec.shape, np.uint8)
        await asyncio.to_thread(decode_jpeg, chunk_bytes.to_bytes(), image)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(image)

    async def _encode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        data = await asyncio.to_thread(encode_jpeg, chunk_array.as_numpy_array(), self.quality)
        return chunk_spec.prototype.buffer.from_bytes(data)
