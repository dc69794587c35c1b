"""What the exports have in common: which stores can be written, and what becomes of their keys."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError, StoreError
from robopolicy_datasets.exchange.record import Record
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store.demo_store import DemoStore

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Output:
    """One key of a data set that is written.

    Attributes:
        key: the format's key.
        dtype: ``"video"``, ``"image"`` or numpy's name.
        features: those of ours that it holds: one, or several vectors one after the other.
    """

    key: str
    dtype: str
    features: tuple[Feature, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one step; a plain number is ``(1,)``."""
        if len(self.features) > 1:
            return (sum(feature.size for feature in self.features),)
        return self.features[0].shape or (1,)

    def gather(self, data: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Takes this key out of ``[T, *shape]`` by our keys."""
        parts = [data[feature.key] for feature in self.features]
        if len(parts) == 1:
            return parts[0].reshape(len(parts[0]), *self.shape)
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)

    def layout(self) -> str | dict[str, list[int]]:
        """Returns what becomes of it in an import, as the config says it."""
        if len(self.features) == 1:
            return self.features[0].key
        ends = np.cumsum([feature.size for feature in self.features]).tolist()
        return {
            feature.key: [end - feature.size, end] for feature, end in zip(self.features, ends, strict=True)
        }


def open_for_export(source: str | Path) -> DemoStore:
    """Opens a store that is to be exported; warns of what no format has a place for.

    Raises:
        StoreError: it cannot be read, or has no episodes or rate.
    """
    store = DemoStore.open(source)
    if not store.rate_hz or not len(store):
        lacks = "rate; import it into a store of its own first" if len(store) else "episodes"
        raise StoreError(f"{source} cannot be exported: it has no {lacks}.")
    left_out = [f"the stream '{feature.key}'" for feature in store.streams]
    if store.events():
        left_out.append(f"{len(store.events())} events")
    if left_out:
        _log.warning("%s: %s cannot be exported and will be left out.", source, ", ".join(left_out))
    return store


def action_output(key: str, action: Sequence[Feature]) -> Output:
    """Returns the one action of a data set.

    Raises:
        ConfigError: there is none, or several that are not all float32 vectors.
    """
    if not action or (len(action) > 1 and not all(map(is_vector, action))):
        listed = ", ".join(feature.describe() for feature in action) or "none"
        raise ConfigError(
            "The format has one action: one key, or several float32 vectors one after the other. "
            f"The store has: {listed}."
        )
    return Output(key, np.dtype(action[0].dtype).name, tuple(action))


def is_vector(feature: Feature) -> bool:
    """Whether a feature is a float32 vector."""
    return feature.dtype == "float32" and len(feature.shape) == 1 and math.prod(feature.shape) > 0


def record_of(store: DemoStore, outputs: Sequence[Output]) -> Record:
    """Returns the record of an export of ``outputs``."""
    keys = {feature.key for output in outputs for feature in output.features}
    spec = Spec(
        tuple(feature for feature in store.spec.observation if feature.key in keys),
        tuple(feature for feature in store.spec.action if feature.key in keys),
    )
    infos = [store.episode_info(index) for index in range(len(store))]
    layout = {output.key: output.layout() for output in outputs}
    return Record(spec, layout, store.rate_hz, store.attributes, infos)
