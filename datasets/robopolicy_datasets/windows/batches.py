"""Batches of windows, and the order in which they are drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy_datasets.errors import ConfigError


class StreamBatch(TypedDict):
    """Samples of one stream in B windows, n for each.

    Attributes:
        value: ``[B, n, *shape]``; 0 where there is no sample.
        time_ns: int64 ``[B, n]``, relative to the time of the present step [ns].
        mask: bool ``[B, n]``, which entries are real.
    """

    value: NDArray[Any]
    time_ns: NDArray[np.int64]
    mask: NDArray[np.bool_]


class WindowMask(TypedDict):
    """Which entries of a batch lie inside their episodes.

    Attributes:
        observation: bool ``[B, n]`` by key.
        action: bool ``[B, m]``.
    """

    observation: dict[str, NDArray[np.bool_]]
    action: NDArray[np.bool_]


class WindowBatch(TypedDict):
    """A batch of B windows.

    n and m are the steps of each ``KeyWindow``.

    Attributes:
        observation: ``[B, n, *shape]`` by key, in the dtypes of the store.
        action: ``[B, m, A]``.
        mask: with ``edges="mask"`` only.
        streams: by key, where windows show streams.
        source: int64 ``[B]``, where a mixture has each window from.
    """

    observation: dict[str, NDArray[Any]]
    action: NDArray[Any]
    mask: NotRequired[WindowMask]
    streams: NotRequired[dict[str, StreamBatch]]
    source: NotRequired[NDArray[np.int64]]


class Windows(ABC):
    """Windows that can be drawn in batches; what a training takes."""

    @abstractmethod
    def __len__(self) -> int:
        """Returns the number of windows, and of those drawn in an epoch."""

    @property
    @abstractmethod
    def on_disk(self) -> list[str]:
        """The keys that are read from disk at every batch; the others lie in memory."""

    @abstractmethod
    def gather(self, indices: ArrayLike) -> WindowBatch:
        """Gathers windows.

        Args:
            indices: ``[B]``, each in ``[0, len(self))``.
        """

    @abstractmethod
    def order(self, *, seed: int, epoch: int, rank: int = 0, world_size: int = 1) -> NDArray[np.int64]:
        """Returns the indices of the windows that ``rank`` draws in an epoch.

        Each of the epoch's draws belongs to one rank; their numbers differ by at most one.

        Raises:
            ConfigError: there is no such rank.
        """

    def batches_per_epoch(self, batch_size: int, *, world_size: int = 1) -> int:
        """Returns the full batches that every rank draws in an epoch.

        Raises:
            ConfigError: the batch is larger than a rank's share.
        """
        share = len(self) // world_size
        if not 1 <= batch_size <= share:
            raise ConfigError(
                f"A batch of {batch_size} cannot be drawn from {len(self)} windows shared by {world_size} "
                f"process(es). Choose a batch size from 1 to {max(1, share)}."
            )
        return share // batch_size

    def batches(
        self,
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
        drop_last: bool = True,
    ) -> Iterator[WindowBatch]:
        """Yields the batches of one epoch for one rank; the same for the same arguments.

        Args:
            batch_size: B, windows in a batch of this rank.
            seed: of the order.
            epoch: another epoch is another order.
            rank: this process.
            world_size: processes that share the epoch.
            start: the batch to begin with; those before it are not gathered.
            drop_last: every rank yields the same number of full batches; otherwise every window is yielded
                and the last batch may be smaller.

        Raises:
            ConfigError: the batch is larger than a rank's share, or there is no such start or rank.
        """
        number = self.batches_per_epoch(batch_size, world_size=world_size)
        order = self.order(seed=seed, epoch=epoch, rank=rank, world_size=world_size)
        if not drop_last:
            number = -(-len(order) // batch_size)
        if not 0 <= start <= number:
            raise ConfigError(f"The epoch cannot begin at batch {start}: it has {number}.")
        parts = (order[index * batch_size : (index + 1) * batch_size] for index in range(start, number))
        return map(self.gather, parts)


def share_of_rank(order: NDArray[np.int64], rank: int, world_size: int) -> NDArray[np.int64]:
    """Returns what ``rank`` takes of an order.

    Raises:
        ConfigError: there is no such rank.
    """
    if not 0 <= rank < world_size:
        raise ConfigError(f"The rank is {rank}; with world_size={world_size} it is 0 to {world_size - 1}.")
    return order[rank::world_size]
