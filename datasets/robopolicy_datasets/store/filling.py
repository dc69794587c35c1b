"""Many episodes into a store, some memory at a time: what imports and copies do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from robopolicy_datasets.store.codecs import EncodedRows
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.store.episode import NewEpisode

_BATCH_BYTES = 64 << 20  # decoded bytes in memory at a time, or one episode


def append_all(
    store: DemoStore,
    episodes: Iterable[NewEpisode],
    total: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Appends episodes, as many in one commit as fit into 64 MB when they are decoded, at least one.

    Args:
        store: open for appending.
        episodes: read as they are needed.
        total: how many they are.
        progress: called after each commit with (episodes done, ``total``).

    Raises:
        StoreError: an episode does not fit or cannot be written; or what ``episodes`` raises.
    """
    done = 0
    for batch in _batches(episodes):
        store.append_episodes(batch)
        done += len(batch)
        batch.clear()  # before the next ones are read
        if progress is not None:
            progress(done, total)


def _batches(episodes: Iterable[NewEpisode]) -> Iterator[list[NewEpisode]]:
    batch: list[NewEpisode] = []
    size = 0
    for episode in episodes:
        batch.append(episode)
        size += _decoded_bytes(episode)
        del episode  # its images must not stay while the next ones are read
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _decoded_bytes(episode: NewEpisode) -> int:
    rows = [*episode.data.values(), *(stream.value for stream in episode.streams.values())]
    return sum(part.nbytes if isinstance(part, EncodedRows) else np.asarray(part).nbytes for part in rows)
