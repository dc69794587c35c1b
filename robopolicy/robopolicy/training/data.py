"""What a policy is trained on: windows of one or several stores, some of their episodes held out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy.policies.chunk_policy import ChunkPolicy
from robopolicy.policies.configs import ChunkPolicyConfig
from robopolicy.policies.real_units import is_encoded
from robopolicy_datasets.errors import ConfigError, StoreError
from robopolicy_datasets.history import with_histories
from robopolicy_datasets.spec import Spec
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.windows import (
    HistoryWindow,
    KeyWindow,
    WindowMixture,
    Windows,
    WindowSampler,
    split_episodes,
)

MOST_SAMPLES = 1_000_000  # of a stream, which its normalization is fitted to
IMAGE_MEMORY = 4 << 30  # bytes of decoded images, of all stores together


class TrainingData:
    """Demonstrations, split into episodes for training and held-out ones of each store.

    Args:
        stores: at least one.
        weights: their shares of the training; by default those of their windows.
        validation_fraction: of each store's episodes, held out.
        seed: of the choice.

    Raises:
        StoreError: a store does not say its rate.
        ConfigError: there is no store, or not one weight for each.
    """

    def __init__(
        self,
        stores: Sequence[DemoStore],
        weights: Sequence[float] | None,
        *,
        validation_fraction: float,
        seed: int,
    ) -> None:
        if not stores or (weights is not None and len(weights) != len(stores)):
            raise ConfigError(
                f"There are {len(stores)} stores and the weights {weights}; give at least one store, and one "
                "weight for each or none."
            )
        for store in stores:
            if store.rate_hz <= 0:
                raise StoreError(
                    f"'{store.path}' does not say at which rate it was recorded. Import it with "
                    "`robopolicy data import`, which sets one."
                )
        self.stores, self.weights = list(stores), weights
        splits = [
            split_episodes(len(store), validation_fraction=validation_fraction, seed=seed) for store in stores
        ]
        self.training = [training for training, _ in splits]
        """The episodes of each store that are trained on."""
        self.held_out = [held_out for _, held_out in splits]
        """The episodes of each store that are not."""

    def spec(self, config: ChunkPolicyConfig) -> Spec:
        """Returns what the first store has for a policy; the others must agree in what the policy uses.

        Args:
            config: of the policy, which names the streams whose histories it sees.

        Raises:
            SpecError: there is no such stream, or no history can be made of it.
            ConfigError: the span of a history is not possible.
        """
        first = self.stores[0]
        return with_histories(first.spec, first.streams, config.streams, f"store '{first.path}'")

    @property
    def dt(self) -> float:
        """Time between steps [s]."""
        return 1.0 / self.stores[0].rate_hz

    @property
    def names(self) -> str:
        """The stores' paths, for messages."""
        return ", ".join(f"'{store.path}'" for store in self.stores)

    def fingerprint(self) -> str:
        """Returns a hash of all stores; of one store, its own."""
        prints = [store.fingerprint() for store in self.stores]
        return prints[0] if len(prints) == 1 else hashlib.sha256("".join(prints).encode()).hexdigest()

    def training_windows(self, policy: ChunkPolicy, *, large: bool = True) -> Windows:
        """Returns the windows that a policy is trained on.

        Args:
            policy: says what it sees and how long its windows are.
            large: whether windows show images and histories too.

        Raises:
            StoreError: too little or unusable data, or stores of different rates.
            SpecError: the stores differ in what the policy uses.
            ConfigError: a weight is not positive.
        """
        return self._windows(policy, self.training, range(len(self.stores)), large=large)

    def held_out_windows(self, policy: ChunkPolicy) -> Windows | None:
        """Returns the windows of the held-out episodes; ``None`` where there are none.

        Raises:
            StoreError, SpecError, ConfigError: as ``training_windows``.
        """
        with_some = [number for number, episodes in enumerate(self.held_out) if len(episodes)]
        return self._windows(policy, self.held_out, with_some) if with_some else None

    def training_values(self, policy: ChunkPolicy) -> dict[str, NDArray[Any]]:
        """Returns all values that are trained on, of each low-dimensional key: ``{key: [N, *shape]}``.

        Of a history they are samples of its stream, one by one: all, or evenly chosen ones of long episodes.
        """
        pairs = list(zip(self.stores, self.training, strict=True))
        rows = [_rows_of(store, episodes) for store, episodes in pairs]
        values = {}
        for feature in policy.spec.observation:
            key = feature.key
            if key in policy.config.streams:
                streams = (store.stream(key, int(each)).value for store, chosen in pairs for each in chosen)
                most = max(1, MOST_SAMPLES // sum(map(len, self.training)))
                parts = [value[:: -(-len(value) // most) or 1].copy() for value in streams]
                values[key] = np.concatenate(parts)[:, None]
            elif not feature.is_image:
                parts = [store.array(key)[its] for (store, _), its in zip(pairs, rows, strict=True)]
                values[key] = np.concatenate(parts)
        return values

    def _windows(
        self,
        policy: ChunkPolicy,
        episodes: Sequence[NDArray[np.int64]],
        numbers: Sequence[int],
        *,
        large: bool = True,
    ) -> Windows:
        """Returns windows of the stores with these numbers, mixed where there are several."""
        config = policy.config
        steps = config.observation_steps
        shown = observed(policy, KeyWindow.past(steps))
        if not large:
            shown = {key: window for key, window in shown.items() if not is_encoded(policy.spec[key])}
        samplers = [
            WindowSampler(
                self.stores[number],
                observation=shown,
                action=KeyWindow(1 - steps, config.horizon),  # row To - 1 belongs to the newest observation
                episodes=episodes[number],
                pad_after=None if config.learn_ending else config.action_steps - 1,
                image_memory=IMAGE_MEMORY // len(self.stores),
            )
            for number in numbers
        ]
        if len(samplers) == 1:
            return samplers[0]
        return WindowMixture(samplers, self.weights and [self.weights[number] for number in numbers])


def observed(policy: ChunkPolicy, steps: KeyWindow) -> dict[str, KeyWindow]:
    """Returns what windows show of each key that a policy observes, at the given steps."""
    return {
        feature.key: HistoryWindow(steps.first, steps.steps, steps.stride, history=feature)
        if feature.key in policy.config.streams
        else steps
        for feature in policy.spec.observation
    }


def _rows_of(store: DemoStore, episodes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the rows of all steps of the episodes."""
    bounds = [0, *store.episode_ends]
    return np.concatenate([np.arange(bounds[episode], bounds[episode + 1]) for episode in episodes])
