"""Batches of windows, gathered with one indexing operation a key.

Low-dimensional arrays lie in memory. So do images as far as they find room there; the others are read from
disk, frame by frame, at every batch.

A window is ``horizon`` consecutive steps of one episode; its observation is the first ``observation_steps``
of them. Windows may start before an episode's first step and end after its last one, where the edge step
is repeated (as in diffusion_policy): so the first observations of an episode and its end are trained too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy_datasets.errors import ConfigError, StoreError, nearest_names
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.store.episode import first_not_finite

_log = logging.getLogger(__name__)


class WindowBatch(TypedDict):
    """A batch of B windows.

    Attributes:
        observation: ``[B, observation_steps, *shape]`` by key, in the dtypes of the store.
        action: ``[B, horizon, A]``; row ``observation_steps - 1`` belongs to the newest observation.
    """

    observation: dict[str, NDArray[Any]]
    action: NDArray[Any]


class WindowSampler:
    """Windows of the chosen episodes of a store.

    Args:
        store: where the steps come from.
        observation_keys: the observations to gather.
        observation_steps: To, steps of observation in a window.
        horizon: Tp, steps of action in a window.
        episodes: the episodes to use; all by default.
        action_steps: Ta, steps that a policy executes; sets the default of ``pad_after``.
        pad_before: steps that a window may start before its episode; To - 1 by default.
        pad_after: steps that a window may end after its episode; Ta - 1 by default.
        image_memory: bytes of decoded images to hold in memory; keys that find no room are read from disk.

    Raises:
        StoreError: a key is missing, values are not finite, or no episode has a window.
        ConfigError: the sizes do not fit together, or an episode does not exist.
    """

    def __init__(
        self,
        store: DemoStore,
        *,
        observation_keys: Sequence[str],
        observation_steps: int,
        horizon: int,
        episodes: Sequence[int] | NDArray[np.integer] | None = None,
        action_steps: int = 8,
        pad_before: int | None = None,
        pad_after: int | None = None,
        image_memory: int = 4 << 30,
    ) -> None:
        pad_before = observation_steps - 1 if pad_before is None else pad_before
        pad_after = action_steps - 1 if pad_after is None else pad_after
        if not 1 <= observation_steps <= horizon or min(pad_before, pad_after) < 0:
            raise ConfigError(
                f"A window of observation_steps={observation_steps}, horizon={horizon}, "
                f"pad_before={pad_before} and pad_after={pad_after} is not possible: "
                "1 <= observation_steps <= horizon, and no padding below 0."
            )
        self.observation_steps = observation_steps
        self.horizon = horizon
        self.episodes = _checked_episodes(store, episodes)
        action_key = _action_key(store)
        _check_keys(store, observation_keys)
        self._store = store
        self.on_disk = _keys_on_disk(store, observation_keys, image_memory)
        in_memory = [key for key in observation_keys if key not in self.on_disk]
        for key in dict.fromkeys([*in_memory, action_key]):
            _check_finite(store, key, self.episodes)
        self._observation = {key: store.array(key) for key in in_memory}
        self._action = store.array(action_key)
        self._rows = _window_rows(store.episode_ends, self.episodes, horizon, pad_before, pad_after)
        if not len(self._rows):
            raise StoreError(
                f"No chosen episode of {store.path} is long enough for a window of {horizon} steps "
                f"(padding {pad_before} + {pad_after}). Record longer episodes or choose a shorter horizon."
            )

    def __len__(self) -> int:
        return len(self._rows)

    def gather(self, indices: ArrayLike) -> WindowBatch:
        """Gathers windows.

        Args:
            indices: ``[B]``, each in ``[0, len(self))``.
        """
        rows = self._rows[np.asarray(indices)]
        seen = rows[:, : self.observation_steps]
        observation = {key: np.take(array, seen, axis=0) for key, array in self._observation.items()}
        for key in self.on_disk:
            frames, places = np.unique(seen, return_inverse=True)  # neighbours and edges share frames
            observation[key] = self._store.take(key, frames)[places.reshape(seen.shape)]
        return {"observation": observation, "action": np.take(self._action, rows, axis=0)}

    def order(self, *, seed: int, epoch: int, rank: int = 0, world_size: int = 1) -> NDArray[np.intp]:
        """Returns the window indices that ``rank`` visits in an epoch: a share of one random permutation.

        The shares of all ranks are disjoint, together every window, and differ in size by at most one.
        """
        if not 0 <= rank < world_size:
            raise ConfigError(
                f"The rank is {rank}; with world_size={world_size} it is 0 to {world_size - 1}."
            )
        return np.random.default_rng([seed, epoch]).permutation(len(self))[rank::world_size]

    def batches(
        self,
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = True,
    ) -> Iterator[WindowBatch]:
        """Yields the batches of one epoch for one rank; the same for the same arguments.

        Args:
            batch_size: B, windows in a batch of this rank.
            seed: of the shuffling.
            epoch: another epoch is another order.
            rank: this process.
            world_size: processes that share the epoch.
            drop_last: every rank yields the same number of full batches; otherwise every window is yielded
                and the last batch may be smaller.

        Raises:
            ConfigError: the batch is larger than the rank's share.
        """
        order = self.order(seed=seed, epoch=epoch, rank=rank, world_size=world_size)
        count = len(order)
        if drop_last:
            smallest_share = len(self) // world_size
            count = smallest_share - smallest_share % batch_size if batch_size > 0 else 0
        if batch_size < 1 or count == 0:
            raise ConfigError(
                f"A batch of {batch_size} cannot be drawn from {len(self)} windows shared by {world_size} "
                f"process(es). Choose a batch size from 1 to {max(1, len(self) // world_size)}."
            )
        return (self.gather(order[first : first + batch_size]) for first in range(0, count, batch_size))


def split_episodes(
    num_episodes: int, *, validation_fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Splits episodes at random into those for training and those held out.

    Args:
        num_episodes: how many there are.
        validation_fraction: the share to hold out, in [0, 1); above 0 at least one episode is held out and
            one remains, where there are two.
        seed: of the choice.

    Returns:
        The training and the validation indices, each sorted.

    Raises:
        ConfigError: the fraction is out of range.
    """
    if not 0 <= validation_fraction < 1:
        raise ConfigError(f"validation_fraction is {validation_fraction}; it must be at least 0 and below 1.")
    held_out = 0
    if validation_fraction > 0 and num_episodes > 1:
        held_out = int(np.clip(round(validation_fraction * num_episodes), 1, num_episodes - 1))
    order = np.random.default_rng(seed).permutation(num_episodes).astype(np.int64)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def _window_rows(
    ends: NDArray[np.int64], episodes: NDArray[np.int64], horizon: int, pad_before: int, pad_after: int
) -> NDArray[np.intp]:
    """Returns the store rows ``[W, horizon]`` of every window, edges repeated."""
    starts = np.concatenate([[0], ends[:-1]])[episodes]
    lengths = ends[episodes] - starts
    counts = np.maximum(lengths - horizon + pad_after + pad_before + 1, 0)
    if (counts == 0).any():
        _log.warning("%d episodes are too short for a window of %d steps.", int((counts == 0).sum()), horizon)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    steps = (within - pad_before)[:, None] + np.arange(horizon)
    np.clip(steps, 0, np.repeat(lengths - 1, counts)[:, None], out=steps)
    steps += np.repeat(starts, counts)[:, None]
    return steps.astype(np.intp, copy=False)


def _checked_episodes(
    store: DemoStore, episodes: Sequence[int] | NDArray[np.integer] | None
) -> NDArray[np.int64]:
    if len(store) == 0:
        raise StoreError(f"The store {store.path} has no episodes. Record or import some first.")
    chosen = np.arange(len(store)) if episodes is None else np.asarray(episodes, dtype=np.int64)
    if len(chosen) == 0:
        raise ConfigError("No episodes were chosen; choose at least one.")
    if chosen.min() < 0 or chosen.max() >= len(store):
        raise ConfigError(
            f"The chosen episodes go up to {chosen.max()}; {store.path} has 0 to {len(store) - 1}."
        )
    return chosen


def _action_key(store: DemoStore) -> str:
    keys = [feature.key for feature in store.spec.action]
    if len(keys) != 1:
        raise StoreError(
            f"The store {store.path} has {len(keys)} action features ({', '.join(keys) or 'none'}); "
            "exactly one is needed, named 'action' as a rule."
        )
    return keys[0]


def _check_keys(store: DemoStore, keys: Sequence[str]) -> None:
    held = store.keys()
    missing = [key for key in keys if key not in held]
    if missing:
        options = ", ".join(nearest_names(missing[0], held))
        raise StoreError(f"The store {store.path} lacks {', '.join(missing)}. It has: {options}.")


def _keys_on_disk(store: DemoStore, keys: Sequence[str], image_memory: int) -> list[str]:
    """Returns the image keys that find no room in memory, given out in the order of the keys."""
    on_disk = []
    for feature in (store.spec[key] for key in keys):
        if feature.is_image:
            needed = store.num_steps * feature.size * np.dtype(feature.dtype).itemsize
            if needed > image_memory:
                on_disk.append(feature.key)
            else:
                image_memory -= needed
    return on_disk


def _check_finite(store: DemoStore, key: str, episodes: NDArray[np.int64]) -> None:
    """Checks the values of the chosen episodes; a single NaN would spoil a whole training."""
    array = store.array(key)
    if array.dtype.kind != "f" or first_not_finite(array) is None:
        return
    ends = store.episode_ends
    for episode in episodes:
        start = int(ends[episode - 1]) if episode else 0
        step = first_not_finite(array[start : ends[episode]])
        if step is not None:
            raise StoreError(
                f"'{key}' of {store.path} is not finite (NaN or infinite) in episode {episode} "
                f"at step {step}. Leave the episode out or repair it."
            )
