"""Windows of several stores, mixed by weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy_datasets.errors import ConfigError, StoreError
from robopolicy_datasets.spec import Spec
from robopolicy_datasets.windows.batches import WindowBatch, Windows, share_of_rank
from robopolicy_datasets.windows.sampler import WindowSampler


class WindowMixture(Windows):
    """Windows drawn from several samplers by weight.

    An epoch has as many draws as the samplers have windows together. After any number of epochs each sampler
    was drawn from by its weight's share of all draws, to one draw (up to 4 samplers; two draws up to 16).
    Each goes through all its windows in an order of its own before it begins anew, over the bounds of
    epochs: one with more than its natural share comes round several times in an epoch, one with less in
    several epochs.

    The index of a window counts through the samplers one after the other. Batches say in ``source`` which
    sampler each window comes from.

    Args:
        sources: at least one.
        weights: one for each, positive, of any sum; by default the numbers of windows, with which every
            window is drawn once an epoch.

    Raises:
        ConfigError: the weights do not fit, or the samplers show different steps or samples.
        SpecError: what two stores hold under a key that is used differs.
        StoreError: the stores have different rates.
    """

    def __init__(self, sources: Sequence[WindowSampler], weights: Sequence[float] | None = None) -> None:
        self.sources = list(sources)
        self._shares = _checked_weights(weights, self.sources)
        for other in self.sources[1:]:
            _check_alike(self.sources[0], other)
        self._ends = np.cumsum([len(source) for source in self.sources])

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def on_disk(self) -> list[str]:
        """The keys that any sampler reads from disk."""
        return list(dict.fromkeys(key for source in self.sources for key in source.on_disk))

    def gather(self, indices: ArrayLike) -> WindowBatch:
        """Gathers windows, of several samplers as it comes; see ``Windows.gather``."""
        indices = np.asarray(indices)
        source = np.searchsorted(self._ends, indices, side="right").astype(np.int64)
        drawn = np.unique(source)
        places = [np.flatnonzero(source == number) for number in drawn]
        parts = [
            self.sources[number].gather(indices[place] - self._ends[number] + len(self.sources[number]))
            for number, place in zip(drawn, places, strict=True)
        ]
        batch: WindowBatch = _assembled(parts, places, len(indices))
        batch["source"] = source
        return batch

    def order(self, *, seed: int, epoch: int, rank: int = 0, world_size: int = 1) -> NDArray[np.int64]:
        """Returns the indices of the windows that ``rank`` draws in an epoch; see ``Windows.order``."""
        begins, ends = (_apportioned((epoch + later) * len(self), self._shares) for later in (0, 1))
        drawn = [
            int(offset) - len(source) + _visited(source, seed, begin, end)
            for offset, source, begin, end in zip(self._ends, self.sources, begins, ends, strict=True)
        ]
        order = np.random.default_rng([seed, epoch]).permutation(np.concatenate(drawn))
        return share_of_rank(order, rank, world_size)


def _apportioned(total: int, shares: list[Fraction]) -> list[int]:
    """Returns how many of the first ``total`` draws are from each sampler.

    Halves of the list share what the whole has: so no number ever falls as the total grows, which rounding
    each sampler's (or each partial sum's) share on its own does not give.
    """
    if len(shares) == 1:
        return [total]
    half = len(shares) // 2
    first = int(total * sum(shares[:half]) / sum(shares) + Fraction(1, 2))
    return _apportioned(first, shares[:half]) + _apportioned(total - first, shares[half:])


def _visited(source: WindowSampler, seed: int, begin: int, end: int) -> NDArray[np.int64]:
    """Returns the windows that a sampler gives from its draw ``begin`` up to ``end`` (exclusive)."""
    rounds = range(begin // len(source), -(-end // len(source)))
    order = [source.order(seed=seed, epoch=number) for number in rounds]
    first = rounds.start * len(source)
    return np.concatenate([np.zeros(0, np.int64), *order])[begin - first : end - first]


def _assembled(parts: Sequence[Any], places: Sequence[NDArray[np.intp]], size: int) -> Any:
    """Returns the batch of ``size`` windows whose parts belong at ``places``."""
    if isinstance(parts[0], Mapping):
        return {key: _assembled([part[key] for part in parts], places, size) for key in parts[0]}
    if len(parts) == 1:
        return parts[0]
    whole = np.empty((size, *parts[0].shape[1:]), parts[0].dtype)
    for part, place in zip(parts, places, strict=True):
        whole[place] = part
    return whole


def _checked_weights(weights: Sequence[float] | None, sources: Sequence[WindowSampler]) -> list[Fraction]:
    """Returns the weights as exact numbers."""
    given = [len(source) for source in sources] if weights is None else list(weights)
    if not sources or len(given) != len(sources) or not all(isfinite(part) and part > 0 for part in given):
        raise ConfigError(
            f"The weights {given} do not fit {len(sources)} stores: there must be one or more, each with a "
            "positive weight."
        )
    return [Fraction(part) for part in given]


def _check_alike(one: WindowSampler, other: WindowSampler) -> None:
    """Checks that batches of both can be mixed; the messages name both stores."""
    first, second = (f"store {sampler.store.path}" for sampler in (one, other))
    for name in ("observation", "action", "streams", "edges"):
        mine, theirs = getattr(one, name), getattr(other, name)
        if mine != theirs:
            raise ConfigError(
                f"Windows of the {first} have {name}={mine}, those of the {second} {name}={theirs}. "
                "To be mixed they must be alike."
            )
    if one.store.rate_hz != other.store.rate_hz:
        raise StoreError(
            f"The {first} has {one.store.rate_hz:g} steps a second, the {second} {other.store.rate_hz:g}. "
            "To be mixed they must have the same rate."
        )
    mine, theirs = (Spec(tuple(sampler.features.values()), ()) for sampler in (one, other))
    mine.require(theirs, needs=first, provides=second)
