"""Windows of one store, gathered with one indexing operation a key.

Low-dimensional arrays and streams lie in memory. So do images as far as they find room there; the others are
read from disk, frame by frame, at every batch.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy_datasets.errors import ConfigError, StoreError, nearest_names, unknown_name
from robopolicy_datasets.spec import Feature
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.store.episode import first_not_finite
from robopolicy_datasets.store.layout import TIME_KEY
from robopolicy_datasets.windows.batches import WindowBatch, Windows, share_of_rank
from robopolicy_datasets.windows.key_window import Edges, HistoryWindow, KeyWindow
from robopolicy_datasets.windows.presents import Presents
from robopolicy_datasets.windows.streams import StreamWindow, stream_samples

_log = logging.getLogger(__name__)


class WindowSampler(Windows):
    """Windows of the chosen episodes of a store; episodes that the store gets later do not matter to it.

    There is a window for each step of an episode at which it may stand: with ``edges="drop"`` those from
    which all steps shown lie inside the episode, otherwise all, as far as ``pad_after`` allows. Their order
    is that of episodes and steps.

    Args:
        store: where the steps come from.
        observation: by key, the steps to show of it; with a ``HistoryWindow``, the history of a stream at
            each of them.
        action: the same for the store's one action feature.
        streams: by key, the samples to show of a stream.
        episodes: the episodes to use; all by default.
        edges: what becomes of windows that reach beyond an end of their episode: ``repeat``, ``drop`` or
            ``mask``, see ``Edges``. Streams have masks of their own.
        pad_after: the most steps that a window may reach beyond its episode's end; any number by default.
            diffusion_policy pads by one less than the steps that are executed.
        image_memory: bytes of decoded images to hold in memory; keys that find no room are read from disk.

    Raises:
        StoreError: a key is missing, values are not finite, or no episode has a window.
        ConfigError: the settings do not fit together, or an episode does not exist.
    """

    def __init__(
        self,
        store: DemoStore,
        *,
        observation: Mapping[str, KeyWindow],
        action: KeyWindow,
        streams: Mapping[str, StreamWindow] | None = None,
        episodes: Sequence[int] | NDArray[np.integer] | None = None,
        edges: Edges | str = Edges.REPEAT,
        pad_after: int | None = None,
        image_memory: int = 4 << 30,
    ) -> None:
        self.store = store
        self.observation, self.action, self.streams = dict(observation), action, dict(streams or {})
        self.edges = _checked_edges(edges, pad_after)
        self.episodes = _checked_episodes(store, episodes)
        self._action_key = _action_key(store)
        self._histories = {
            key: window for key, window in self.observation.items() if isinstance(window, HistoryWindow)
        }
        steps = {key: window for key, window in self.observation.items() if key not in self._histories}
        _check_keys(store, list(steps))
        self._presents = self._all_presents(pad_after)
        self._on_disk = _keys_on_disk(store, list(steps), image_memory)
        in_memory = [key for key in steps if key not in self._on_disk]
        for key in dict.fromkeys([*in_memory, self._action_key]):
            _check_finite(store, key, self.episodes)
        self._arrays = {key: store.array(key) for key in in_memory}
        self._action, self._action_offsets = store.array(self._action_key), action.offsets
        keys = dict.fromkeys([*self.streams, *self._histories])
        self._samples = {key: stream_samples(store, key, self.episodes) for key in keys}
        self._time = store.array(TIME_KEY) if keys else np.zeros(0, np.int64)
        # the rows are found once for all keys that show the same steps
        self._groups = [
            (window.offsets, [key for key, its in steps.items() if its == window])
            for window in dict.fromkeys(steps.values())
        ]

    def __len__(self) -> int:
        return len(self._presents)

    @property
    def on_disk(self) -> list[str]:
        """The keys that are read from disk at every batch; the others lie in memory."""
        return list(self._on_disk)

    @property
    def features(self) -> dict[str, Feature]:
        """What the windows show, by key, the action and the streams included."""
        spec, streams = self.store.spec, {feature.key: feature for feature in self.store.streams}
        keys = dict.fromkeys([*self.observation, self._action_key])
        steps = {key: spec[key] for key in keys if key not in self._histories}
        return {**steps, **{key: streams[key] for key in self._samples}}

    def gather(self, indices: ArrayLike) -> WindowBatch:
        """Gathers windows.

        Args:
            indices: ``[B]``, each in ``[0, len(self))``.
        """
        places = self._presents.places(np.asarray(indices))
        observation: dict[str, NDArray[Any]] = {}
        for offsets, keys in self._groups:
            rows = places.rows(offsets)
            for key in keys:
                held = self._arrays.get(key)
                observation[key] = self._read(key, rows) if held is None else held.take(rows, axis=0)
        for key, window in self._histories.items():
            now = self._time[places.rows(window.offsets)]
            observation[key] = window.gather(self._samples[key], now, places.episode)
        action = self._action.take(places.rows(self._action_offsets), axis=0)
        batch: WindowBatch = {"observation": observation, "action": action}
        if self.edges is Edges.MASK:
            inside = {key: places.inside(window.offsets) for key, window in self.observation.items()}
            batch["mask"] = {"observation": inside, "action": places.inside(self.action.offsets)}
        if self.streams:
            present = self._time[places.present]
            batch["streams"] = {
                key: shown.gather(self._samples[key], present, places.episode)
                for key, shown in self.streams.items()
            }
        return batch

    def order(self, *, seed: int, epoch: int, rank: int = 0, world_size: int = 1) -> NDArray[np.int64]:
        """Returns the indices of the windows that ``rank`` draws in an epoch: a share of one permutation.

        The shares of all ranks are disjoint, together every window, and differ in size by at most one.

        Raises:
            ConfigError: there is no such rank.
        """
        order = np.random.default_rng([seed, epoch]).permutation(len(self))
        return share_of_rank(order, rank, world_size)

    def _read(self, key: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Reads rows ``[B, n]`` of ``key`` from disk."""
        frames, places = np.unique(rows, return_inverse=True)  # neighbours and edges share frames
        return self.store.take(key, frames)[places.reshape(rows.shape)]

    def _all_presents(self, pad_after: int | None) -> Presents:
        """Returns the steps at which windows may stand."""
        windows = [*self.observation.values(), self.action]
        before, after = max(-min(window.first for window in windows), 0), 0
        reach = max(max(window.last for window in windows), 0)
        if self.edges is Edges.DROP:
            after = reach
        else:
            before = 0
            after = 0 if pad_after is None else max(reach - pad_after, 0)
        presents = Presents(self.store.episode_ends, self.episodes, before=before, after=after)
        if not len(presents):
            raise StoreError(
                f"No chosen episode of {self.store.path} is long enough for a window: it needs more than "
                f"{before + after} steps. Record longer episodes, show fewer steps, or let windows reach "
                "further beyond their ends (edges, pad_after)."
            )
        if presents.empty_episodes:
            _log.warning(
                "%d episodes are too short for a window; it needs more than %d steps.",
                presents.empty_episodes,
                before + after,
            )
        return presents


def _checked_edges(edges: Edges | str, pad_after: int | None) -> Edges:
    if edges not in list(Edges):
        raise unknown_name("edges", edges, list(Edges))
    if pad_after is not None and (pad_after < 0 or edges == Edges.DROP):
        raise ConfigError(
            f"pad_after={pad_after} does not go with edges={edges}: it must be at least 0, and windows that "
            "reach beyond their episode are there with edges=repeat and edges=mask only."
        )
    return Edges(edges)


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
