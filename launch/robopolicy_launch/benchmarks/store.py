"""Random two-frame windows of camera-like images from disk, beside reading them by hand, zarr and mp4.

Images of 224 x 224 pixels: a moving crop of a smooth picture with the noise of a sensor. By hand means a flat
file, a table of offsets, ``pread`` and the bare decoder. zarr slices the very store that ours reads. mp4 is
written as LeRobot does. Whole batches are read with two threads and with one. Sizes are of a frame on disk.
Last comes a store that was dropped from the file cache.
"""

from __future__ import annotations

import logging
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

from robopolicy_datasets.errors import MissingExtraError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import threads as store_threads
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_launch.benchmarks import Row, _cold
from robopolicy_launch.benchmarks._mp4 import CODECS as MP4_CODECS
from robopolicy_launch.benchmarks._mp4 import Mp4
from robopolicy_launch.benchmarks._timing import side_by_side, threads

_log = logging.getLogger(__name__)
KEY, ACTION, WINDOW = "camera0_rgb", Feature("action", (2,)), 2

Decode = Callable[[bytes, NDArray[np.uint8]], object]


def run(
    *,
    frames: int = 600,
    image: int = 224,
    codecs: Sequence[str] = ("raw", "lz4", "zstd", "jpeg"),
    windows: int = 200,
    batch: int = 64,
    cold_bytes: int = 4 << 30,
    seconds: float = 4.0,
) -> Iterator[Row]:
    """Measures windows of each codec.

    Args:
        frames: in the store.
        image: width and height of the images [px].
        codecs: how the frames are stored.
        windows: read between two looks at the clock.
        batch: windows that two threads read together.
        cold_bytes: size of the raw store that is dropped from memory.
        seconds: to spend on each row.

    Raises:
        ConfigError: the temporary folder has too little room.
    """
    starts = np.random.default_rng(1).integers(0, frames - WINDOW, windows)
    with tempfile.TemporaryDirectory() as folder:
        _cold.check_room(Path(folder), cold_bytes)
        images = camera_like(frames, image)
        spec = Spec((Feature(KEY, images.shape[1:], "uint8", kind="rgb"),), (ACTION,))
        stores: dict[str, DemoStore] = {}
        for codec in codecs:
            stores[codec] = store = DemoStore.create(
                Path(folder) / codec, spec, rate_hz=10.0, codecs={KEY: codec}
            )
            store.append_episode({KEY: images, ACTION.key: np.zeros((frames, *ACTION.shape), np.float32)})
            sliced = zarr.open_array(store.path / "data" / KEY, mode="r")
            by_hand = _by_hand(Path(folder) / f"{codec}.bin", images, codec)
            windows_row = partial(_windows_row, store, starts, seconds)
            yield windows_row(f"store_{codec}_by_hand", by_hand, "pread and the bare decoder")
            yield windows_row(f"store_{codec}_zarr", partial(_slice, sliced), "zarr's slicing")
            yield Row(f"store_{codec}_size", _size(store), images[0].nbytes, "bytes", "a frame's pixels")
        for codec, store in stores.items():
            yield _two_threads(f"store_{codec}", partial(store.take, KEY), _batches(frames, batch), seconds)
        floor = _read_only(Path(folder) / "floor.bin", images)
        yield _two_threads("floor_pread", floor, _batches(frames, batch), seconds)
        for name, video in _videos(Path(folder), images).items():
            for codec, store in stores.items():
                yield _windows_row(
                    store, starts, seconds, f"store_{codec}_{name}", video.read, f"mp4 ({name})"
                )
                size = f"store_{codec}_size_{name}"
                yield Row(size, _size(store), video.bytes_per_frame, "bytes", f"mp4 ({name})")
        yield from _cold.run(Path(folder) / "cold.zarr", images, cold_bytes, windows)


def camera_like(count: int, size: int) -> NDArray[np.uint8]:
    """Makes images ``[count, size, size, 3]``: a crop that moves over a smooth picture, with noise."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (3 * size, 3 * size), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    images = np.empty((count, size, size, 3), np.uint8)
    for number, image in enumerate(images):
        x, y = (round(size * (1 + np.sin(speed * number))) for speed in (0.013, 0.021))  # some pixels a frame
        noisy = picture[y : y + size, x : x + size] + random.normal(0, 2, image.shape)
        image[...] = np.clip(noisy, 0, 255)
    return images


def _videos(folder: Path, images: NDArray[np.uint8]) -> dict[str, Mp4]:
    try:
        return {name: Mp4.write(folder / f"{name}.mp4", images, name) for name in MP4_CODECS}
    except MissingExtraError as error:
        _log.warning("mp4 is left out. %s", error)
        return {}


def _windows_row(
    store: DemoStore,
    starts: NDArray[np.integer],
    seconds: float,
    name: str,
    reference: Callable[[int], object],
    compared_with: str,
) -> Row:
    ours = _each(partial(_take, store), starts)
    with threads(1):
        times = side_by_side(ours, _each(reference, starts), seconds=seconds)
    mine, other = (milliseconds * 1e3 / len(starts) for milliseconds in times)
    return Row(name, mine, other, "us", compared_with)


def _size(store: DemoStore) -> float:
    """Returns the bytes of a frame on disk, with its share of the indices."""
    files = (store.path / "data" / KEY).rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file()) / store.num_steps


def _batches(frames: int, windows: int) -> list[NDArray[np.integer]]:
    """Returns the rows of ten batches of windows."""
    starts = np.random.default_rng(2).integers(0, frames - WINDOW, (10, windows))
    return [(first[:, None] + np.arange(WINDOW)).reshape(-1) for first in starts]


def _two_threads(
    name: str,
    read: Callable[[NDArray[np.integer]], object],
    batches: Sequence[NDArray[np.integer]],
    seconds: float,
) -> Row:
    """Compares two threads with one; each figure is for a window."""

    def call(count: int) -> None:
        with store_threads.at_most(count):
            for rows in batches:
                read(rows)

    with threads(2):  # the clock's time
        times = side_by_side(partial(call, 2), partial(call, 1), seconds=seconds)
    windows = sum(map(len, batches)) / WINDOW
    two, one = (milliseconds * 1e3 / windows for milliseconds in times)
    return Row(f"{name}_two_threads", two, one, "us", "one thread")


def _read_only(path: Path, images: NDArray[np.uint8]) -> Callable[[NDArray[np.integer]], object]:
    """Returns what reads batches of windows with ``pread`` alone, into the place where they are wanted."""
    path.write_bytes(images.tobytes())
    descriptor, size = os.open(path, os.O_RDONLY), images[0].nbytes  # until the process ends

    def read(rows: NDArray[np.integer]) -> object:
        out = np.empty((len(rows) // WINDOW, WINDOW, *images.shape[1:]), np.uint8)
        starts = zip(rows[::WINDOW].tolist(), out, strict=True)
        store_threads.for_each(
            lambda start: os.preadv(descriptor, [start[1].data], start[0] * size), starts, out.nbytes
        )
        return out

    return read


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
