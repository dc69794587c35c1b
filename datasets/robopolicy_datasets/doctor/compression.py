"""What images that are stored without loss would take as JPEG, and what that would lose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robopolicy_datasets.store.codecs import JpegCodec, choose_codec, parse_codec
from robopolicy_datasets.store.demo_store import DemoStore

SAMPLES = 16  # frames that are tried


@dataclass(frozen=True)
class Saving:
    """What JPEG would save of one camera, by a sample of its frames.

    Attributes:
        key: the camera's.
        codec: the codec that was tried, e.g. ``"jpeg:95"``.
        share: bytes of that codec in bytes of the store's own.
        mean_error: mean absolute difference of a value, of 255.
    """

    key: str
    codec: str
    share: float
    mean_error: float


def savings(store: DemoStore) -> list[Saving]:
    """Tries JPEG on every camera whose images are filmed and stored without loss.

    Raises:
        StoreError: images cannot be read.
    """
    cameras = [feature.key for feature in store.spec.features if feature.kind == "rgb"]
    lossless = [key for key in cameras if parse_codec(store.codecs[key]).lossless]
    found = [_saving(store, key) for key in lossless] if store.num_steps else []
    return [saving for saving in found if saving is not None]


def _saving(store: DemoStore, key: str) -> Saving | None:
    """Returns what JPEG would save of ``key``; nothing where its images are drawn."""
    rows = np.unique(np.linspace(0, store.num_steps - 1, SAMPLES).astype(np.int64))
    frames = store.take(key, rows)
    codec = choose_codec(frames)
    if not isinstance(codec, JpegCodec):
        return None
    encoded = [codec.encode(frame) for frame in frames]
    decoded = np.empty_like(frames)
    for data, out in zip(encoded, decoded, strict=True):
        codec.decode(data, out)
    now = sum(map(len, store.encoded(key, rows).chunks))
    error = float(np.abs(frames.astype(np.int16) - decoded).mean())
    return Saving(key, codec.text, sum(map(len, encoded)) / now, error)
