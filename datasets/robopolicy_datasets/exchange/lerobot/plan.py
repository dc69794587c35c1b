"""Which LeRobot feature each key of a store becomes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError, nearest_names
from robopolicy_datasets.exchange.lerobot.info import BOOKKEEPING
from robopolicy_datasets.spec import Feature, Spec

STATE, ACTION = "observation.state", "action"


@dataclass(frozen=True)
class Output:
    """One LeRobot feature.

    Attributes:
        key: LeRobot's key.
        dtype: ``"video"``, ``"image"`` or numpy's name.
        features: those of ours that it holds: one, or several vectors one after the other.
    """

    key: str
    dtype: str
    features: tuple[Feature, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one step, as LeRobot writes it: a plain number is ``(1,)``."""
        if len(self.features) > 1:
            return (sum(feature.size for feature in self.features),)
        return self.features[0].shape or (1,)

    def gather(self, data: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Takes this feature out of ``[T, *shape]`` by our keys."""
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

    def described(self) -> dict[str, Any]:
        """Returns its entry in ``meta/info.json``."""
        names: list[str] | None = None
        if self.features[0].kind == "rgb":
            names = ["height", "width", "channels"]
        elif len(self.shape) == 1:
            names = [
                feature.key if feature.size == 1 else f"{feature.key}.{number}"
                for feature in self.features
                for number in range(feature.size)
            ]
        return {"dtype": self.dtype, "shape": list(self.shape), "names": names}


def plan_outputs(spec: Spec, keys: Sequence[str], image_dtype: str) -> list[Output]:
    """Works out the LeRobot features: images, one state, one action, and what fits neither.

    LeRobot's policies take one vector of state, so all float32 vectors of the observation become
    ``observation.state``, in the Spec's order.

    Args:
        spec: of the store.
        keys: those to write; empty for all.
        image_dtype: ``"video"`` or ``"image"``.

    Raises:
        ConfigError: there is no such key, nothing to do, or something that LeRobot has no form for.
    """
    known = spec.keys()
    for key in keys:
        if key not in known:
            options = ", ".join(nearest_names(key, known))
            raise ConfigError(f"format.keys names '{key}', which the store does not have. It has: {options}.")
    observation, action = (
        [feature for feature in side if not keys or feature.key in keys]
        for side in (spec.observation, spec.action)
    )
    depth = [feature.key for feature in (*observation, *action) if feature.kind == "depth"]
    if depth:
        raise ConfigError(
            f"Depth images ({', '.join(depth)}) are not exported. Name the keys to write with format.keys."
        )
    if not action or (len(action) > 1 and not all(map(_is_vector, action))):
        listed = ", ".join(feature.describe() for feature in action) or "none"
        raise ConfigError(
            "LeRobot has one action: one key, or several float32 vectors one after the other. "
            f"The store has: {listed}."
        )
    state = [feature for feature in observation if _is_vector(feature)]
    outputs = [Output(STATE, "float32", tuple(state))] if state else []
    for feature in observation:
        if feature.kind == "rgb":
            outputs.append(Output(f"observation.images.{feature.key}", image_dtype, (feature,)))
        elif not _is_vector(feature):
            outputs.append(Output(f"observation.{feature.key}", np.dtype(feature.dtype).name, (feature,)))
    outputs.append(Output(ACTION, np.dtype(action[0].dtype).name, tuple(action)))
    names = [output.key for output in outputs]
    if len(set(names)) < len(names) or set(names) & set(BOOKKEEPING):
        raise ConfigError(
            f"The keys of the store become {', '.join(names)}, which are not all different. "
            "Name the keys to write with format.keys."
        )
    return outputs


def _is_vector(feature: Feature) -> bool:
    return feature.dtype == "float32" and len(feature.shape) == 1 and math.prod(feature.shape) > 0
