"""Random two-frame windows of camera-like images from disk, beside reading them by hand and beside zarr.

Images of 224 x 224 pixels: crops of a smooth picture with the noise of a sensor. By hand means a flat file, a
table of offsets, ``pread`` and the bare decoder. zarr slices the very store that ours reads.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
import zarr
from numcodecs import blosc
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_launch.benchmarks import Row
from robopolicy_launch.benchmarks._timing import side_by_side, threads

KEY, ACTION, WINDOW = "camera0_rgb", Feature("action", (2,)), 2

Decode = Callable[[bytes, NDArray[np.uint8]], object]


def run(
    *,
    frames: int = 600,
    image: int = 224,
    codecs: Sequence[str] = ("raw", "lz4", "zstd", "jpeg"),
    windows: int = 200,
    seconds: float = 4.0,
) -> Iterator[Row]:
    """Measures windows of each codec.

    Args:
        frames: in the store.
        image: width and height of the images [px].
        codecs: how the frames are stored.
        windows: read between two looks at the clock.
        seconds: to spend on each row.
    """
    images = camera_like(frames, image)
    spec = Spec((Feature(KEY, (image, image, 3), "uint8", kind="rgb"),), (ACTION,))
    starts = np.random.default_rng(1).integers(0, frames - WINDOW, windows)
    with tempfile.TemporaryDirectory() as folder, threads(1):
        for codec in codecs:
            store = DemoStore.create(Path(folder) / codec, spec, rate_hz=10.0, codecs={KEY: codec})
            action = np.zeros((frames, *ACTION.shape), np.float32)
            store.append_episode({KEY: images, ACTION.key: action})
            sliced = zarr.open_array(store.path / "data" / KEY, mode="r")
            by_hand = _by_hand(Path(folder) / f"{codec}.bin", images, codec)
            for name, reference, compared_with in (
                ("by_hand", by_hand, "pread and the bare decoder"),
                ("zarr", partial(_slice, sliced), "zarr's slicing"),
            ):
                ours = _each(partial(_take, store), starts)
                times = side_by_side(ours, _each(reference, starts), seconds=seconds)
                mine, other = (milliseconds * 1e3 / windows for milliseconds in times)
                yield Row(f"store_{codec}_{name}", mine, other, "us", compared_with)


def camera_like(count: int, size: int) -> NDArray[np.uint8]:
    """Makes images ``[count, size, size, 3]``: crops of a smooth picture with noise."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (3 * size, 3 * size), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    images = np.empty((count, size, size, 3), np.uint8)
    for image, (x, y) in zip(images, random.integers(0, 2 * size, (count, 2)), strict=True):
        noisy = picture[y : y + size, x : x + size] + random.normal(0, 2, image.shape)
        image[...] = np.clip(noisy, 0, 255)
    return images


def _take(store: DemoStore, start: int) -> object:
    return store.take(KEY, np.arange(start, start + WINDOW))


def _slice(array: Any, start: int) -> object:
    return array[start : start + WINDOW]


def _each(read: Callable[[int], object], starts: NDArray[np.integer]) -> Callable[[], None]:
    def call() -> None:
        for start in starts.tolist():
            read(start)

    return call


def _by_hand(path: Path, images: NDArray[np.uint8], codec: str) -> Callable[[int], object]:
    encode, decode = _BARE[codec]
    encoded = [encode(image) for image in images]
    offsets = np.cumsum([0, *map(len, encoded)]).tolist()
    path.write_bytes(b"".join(encoded))
    descriptor = os.open(path, os.O_RDONLY)  # until the process ends

    def read(start: int) -> object:
        out = np.empty((WINDOW, *images.shape[1:]), np.uint8)
        for place, frame in zip(out, range(start, start + WINDOW), strict=True):
            decode(os.pread(descriptor, offsets[frame + 1] - offsets[frame], offsets[frame]), place)
        return out

    return read


def _copy(data: bytes, out: NDArray[np.uint8]) -> None:
    out.reshape(-1)[...] = np.frombuffer(data, np.uint8)


_BARE: dict[str, tuple[Callable[[NDArray[np.uint8]], bytes], Decode]] = {
    "raw": (lambda image: image.tobytes(), _copy),
    "lz4": (lambda image: blosc.compress(image, b"lz4", 5, blosc.NOSHUFFLE), blosc.decompress),
    "zstd": (lambda image: bytes(Zstd(3).encode(image)), lambda data, out: Zstd().decode(data, out)),
    "jpeg": (
        lambda image: simplejpeg.encode_jpeg(image, 95, "RGB", "420"),
        lambda data, out: simplejpeg.decode_jpeg(data, "RGB", buffer=out),
    ),
}
