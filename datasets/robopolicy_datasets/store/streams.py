"""Sensors with a rate of their own, and the files that hold them beside the steps of the episodes.

::

    streams/<key>/value/         one row a sample, episodes back to back
    streams/<key>/time_ns/       int64 time of each sample
    streams/<key>/episode_ends/  int64, the row after each episode's last sample
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.spec import Feature
from robopolicy_datasets.store.blocks import BlockArray
from robopolicy_datasets.store.layout import (
    ENDS_LAYOUT,
    TIME_KEY,
    TIME_LAYOUT,
    ArrayLayout,
    stream_folders,
    to_json_bytes,
)


@dataclass(frozen=True)
class Stream:
    """The samples of one sensor in one episode.

    Attributes:
        value: ``[N, *shape]``; N may be 0.
        time_ns: int64 ``[N]``, strictly increasing [ns, the clock of the episode's steps].
    """

    value: ArrayLike
    time_ns: ArrayLike


@dataclass(frozen=True)
class StoredStream:
    """The samples of one sensor in one stored episode, read-only; see ``Stream``."""

    value: NDArray[Any]
    time_ns: NDArray[np.int64]


class StreamFiles:
    """The arrays of one stream.

    Args:
        folder: ``streams/<key>`` of the store.
        feature: what the stream holds.
        episodes: committed episodes of the store.

    Raises:
        StoreError: a part is missing, damaged, or does not fit the others.
    """

    def __init__(self, folder: Path, feature: Feature, episodes: int) -> None:
        self.feature = feature
        self.ends_array = BlockArray.open(folder / "episode_ends", ENDS_LAYOUT)
        self.value = BlockArray.open(folder / "value")
        self.time = BlockArray.open(folder / TIME_KEY, TIME_LAYOUT)
        if (self.value.row_shape, self.value.dtype) != (feature.shape, np.dtype(feature.dtype).name):
            raise StoreError(
                f"{folder} is {self.value.dtype}{list(self.value.row_shape)} a sample; the store says "
                f"{feature.dtype}{list(feature.shape)}."
            )
        if self.ends_array.rows < episodes:
            raise StoreError(
                f"{folder} has {self.ends_array.rows} episodes where the store has {episodes}. "
                "Restore the store from a copy."
            )
        self.ends: NDArray[np.int64] = self.ends_array.read(0, episodes)
        rows = int(self.ends[-1]) if episodes else 0
        falls = self.ends < np.concatenate([[0], self.ends[:-1]])
        if falls.any() or rows > min(self.value.rows, self.time.rows):
            raise StoreError(
                f"{folder / 'episode_ends'} does not fit the {self.value.rows} values and {self.time.rows} "
                "times. Restore the store from a copy."
            )

    @staticmethod
    def layouts(feature: Feature, value: ArrayLayout) -> dict[str, ArrayLayout]:
        """Returns the layouts of a stream's arrays by folder, ``value`` being that of the values."""
        values, times = stream_folders(feature.key)
        return {values: value, times: TIME_LAYOUT, f"streams/{feature.key}/episode_ends": ENDS_LAYOUT}

    @property
    def arrays(self) -> tuple[BlockArray, BlockArray]:
        """The arrays with one row a sample."""
        return self.value, self.time

    def read(self, episode: int) -> StoredStream:
        """Reads the samples of an episode.

        Raises:
            StoreError: the bytes are damaged.
        """
        start, stop = (int(self.ends[episode - 1]) if episode else 0), int(self.ends[episode])
        parts = [array.read(start, stop) for array in self.arrays]
        for part in parts:
            part.flags.writeable = False
        return StoredStream(*parts)

    def ends_files(self, episodes: int, lengths: Sequence[int]) -> dict[Path, bytes]:
        """Builds the files that say where new episodes' samples end.

        Args:
            episodes: committed ones.
            lengths: samples of each new episode.
        """
        array = self.ends_array
        committed = int(array.read(episodes - 1, episodes)[0]) if episodes else 0
        files = array.extended(episodes, committed + np.cumsum(lengths, dtype=np.int64))
        metadata = array.layout.metadata(episodes + len(lengths))
        return {**files, array.folder / "zarr.json": to_json_bytes(metadata)}


def check_streams(given: Mapping[str, Stream], features: Sequence[Feature]) -> dict[str, StoredStream]:
    """Checks that an episode's streams are those of the store.

    Raises:
        StoreError: names the stream, what was expected and what was found.
    """
    wanted = {feature.key: feature for feature in features}
    if set(given) != set(wanted):
        raise StoreError(
            f"The episode has the streams {', '.join(sorted(given)) or 'none'}; the store holds "
            f"{', '.join(wanted) or 'none'}. Give each one, without samples where there are none."
        )
    return {key: check_stream(given[key], feature) for key, feature in wanted.items()}


def check_stream(stream: Stream, feature: Feature) -> StoredStream:
    """Checks that a stream is what ``feature`` says; returns it in the feature's dtype.

    Raises:
        StoreError: names the stream, what was expected and what was found.
    """
    key = feature.key
    value, time = np.asarray(stream.value), np.asarray(stream.time_ns)
    if time.ndim != 1 or (time.dtype != np.int64 and len(time)):
        raise StoreError(
            f"The times of stream '{key}' are {time.dtype}{list(time.shape)}; int64[N] is needed."
        )
    if value.shape != (len(time), *feature.shape):
        expected = ", ".join(map(str, (len(time), *feature.shape)))
        raise StoreError(f"Stream '{key}' has the shape {list(value.shape)} but [{expected}] is expected.")
    wanted = np.dtype(feature.dtype)
    both_floating = value.dtype.kind == wanted.kind == "f"
    if len(time) and not both_floating and not np.can_cast(value.dtype, wanted, "safe"):
        raise StoreError(f"Stream '{key}' is {value.dtype} but {wanted} is expected. Convert it first.")
    backward = np.flatnonzero(time[1:] <= time[:-1])
    if len(backward):
        raise StoreError(f"The times of stream '{key}' must increase; sample {backward[0] + 1} does not.")
    return StoredStream(value.astype(wanted, copy=False), time.astype(np.int64, copy=False))
