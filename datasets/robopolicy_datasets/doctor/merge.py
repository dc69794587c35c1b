"""Merges stores whose features agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from robopolicy_datasets.doctor.copying import EpisodeCopy, copy_episodes, require_time
from robopolicy_datasets.errors import ConfigError, SpecError, StoreError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store.demo_store import DemoStore


def merge_stores(
    stores: Sequence[DemoStore],
    target: str | Path,
    *,
    drop: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> DemoStore:
    """Writes a new store with the episodes of all ``stores``, one store after the other.

    Args:
        stores: two or more, of one rate.
        target: the new store; must not exist.
        drop: whether keys that not all stores have are left out; otherwise they are refused.
        progress: called with (episodes done, episodes in all).

    Returns:
        The new store, open for reading.

    Raises:
        ConfigError: fewer than two stores are given.
        SpecError: their features do not agree.
        StoreError: their rates do not agree, or as for ``copy_episodes``.
    """
    if len(stores) < 2:
        raise ConfigError(f"A merge needs at least two stores; {len(stores)} given.")
    for store in stores:
        require_time(store)
    names = [str(store.path) for store in stores]
    if len({store.rate_hz for store in stores}) > 1:
        rates = ", ".join(f"{store.path} {store.rate_hz:g} Hz" for store in stores)
        raise StoreError(
            f"Stores of one rate can be merged; these have {rates}. Record or import at one rate."
        )
    return copy_episodes(
        [EpisodeCopy(store, episode) for store in stores for episode in range(len(store))],
        target,
        reconcile([store.spec for store in stores], names, drop=drop),
        rate_hz=stores[0].rate_hz,
        metadata={
            "merged": [{"store": store.path.name, "metadata": dict(store.attributes)} for store in stores]
        },
        done="merged",
        streams=_common_streams(stores, drop=drop),
        progress=progress,
    )


def reconcile(specs: Sequence[Spec], names: Sequence[str], *, drop: bool = False) -> Spec:
    """Returns the Spec that data of all ``specs`` fits without loss.

    Floats take the widest type among them, and so do integers. Everything else must be the same.

    Args:
        specs: at least one.
        names: what each belongs to, for messages.
        drop: whether keys that not all have are left out; otherwise they are refused.

    Raises:
        SpecError: names both sides and every feature that does not fit.
    """
    keys_of = {name: spec.keys() for name, spec in zip(names, specs, strict=True)}
    common = [key for key in keys_of[names[0]] if all(key in keys for keys in keys_of.values())]
    extra = {name: [key for key in keys if key not in common] for name, keys in keys_of.items()}
    listed = "; ".join(f"{name} has {', '.join(keys)}" for name, keys in extra.items() if keys)
    if listed and not drop:
        raise SpecError(f"Not all stores have the same keys: {listed}. Leave these keys out with drop=true.")
    dtypes = {key: _common_dtype([spec[key].dtype for spec in specs]) for key in common}
    shared = [_restricted(spec, dtypes) for spec in specs]
    if not shared[0].action:
        raise SpecError(f"The stores have no action in common: {listed}.")
    for spec, name in zip(shared[1:], names[1:], strict=True):
        shared[0].require(spec, needs=f"store {names[0]}", provides=f"store {name}")
        moved = {feature.key for feature in spec.action} ^ {feature.key for feature in shared[0].action}
        if moved:
            keys = ", ".join(sorted(moved))
            raise SpecError(f"{keys} is an action in only one of {names[0]} and {name}. Import one again.")
    rates = {key: {spec[key].rate_hz for spec in specs} for key in common}
    return _map(shared[0], lambda feature: replace(feature, rate_hz=_only(rates[feature.key])))


def _common_dtype(dtypes: Sequence[str]) -> str | None:
    """Returns the type that holds all values of ``dtypes``; ``None`` where there is none of their sort."""
    kinds = {np.dtype(name).kind for name in dtypes}
    widest = np.result_type(*dtypes)
    lossless = len(kinds) == 1 or (kinds == {"i", "u"} and widest.kind == "i")
    return widest.name if lossless else None


def _restricted(spec: Spec, dtypes: dict[str, str | None]) -> Spec:
    """Returns ``spec`` with the keys of ``dtypes`` only, of those types where there is one."""
    kept = Spec(
        tuple(feature for feature in spec.observation if feature.key in dtypes),
        tuple(feature for feature in spec.action if feature.key in dtypes),
    )
    return _map(kept, lambda feature: replace(feature, dtype=dtypes[feature.key] or feature.dtype))


def _map(spec: Spec, change: Callable[[Feature], Feature]) -> Spec:
    return Spec(tuple(map(change, spec.observation)), tuple(map(change, spec.action)))


def _only(rates: set[float]) -> float:
    """Returns the rate that all declare; 0 (none declared) where they differ."""
    return next(iter(rates)) if len(rates) == 1 else 0.0


def _common_streams(stores: Sequence[DemoStore], *, drop: bool) -> list[Feature]:
    """Returns the streams that all stores have alike.

    Raises:
        StoreError: another one is there, and nothing is to be dropped.
    """
    common = [stream for stream in stores[0].streams if all(stream in store.streams for store in stores)]
    others = {stream.key for store in stores for stream in store.streams if stream not in common}
    if others and not drop:
        raise StoreError(
            f"Not all stores have the same stream {', '.join(sorted(others))}. "
            "Say drop=true to leave out what not all have."
        )
    return common
