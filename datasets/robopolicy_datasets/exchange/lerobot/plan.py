"""Which LeRobot feature each key of a store becomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from robopolicy_datasets.errors import ConfigError, nearest_names
from robopolicy_datasets.exchange.lerobot.info import BOOKKEEPING
from robopolicy_datasets.exchange.outputs import Output, action_output, is_vector
from robopolicy_datasets.spec import Spec

STATE, ACTION = "observation.state", "action"


def described(output: Output) -> dict[str, Any]:
    """Returns the entry of an output in ``meta/info.json``."""
    names: list[str] | None = None
    if output.features[0].kind == "rgb":
        names = ["height", "width", "channels"]
    elif len(output.shape) == 1:
        names = [
            feature.key if feature.size == 1 else f"{feature.key}.{number}"
            for feature in output.features
            for number in range(feature.size)
        ]
    return {"dtype": output.dtype, "shape": list(output.shape), "names": names}


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
    actions = action_output(ACTION, action)
    state = [feature for feature in observation if is_vector(feature)]
    outputs = [Output(STATE, "float32", tuple(state))] if state else []
    for feature in observation:
        if feature.kind == "rgb":
            outputs.append(Output(f"observation.images.{feature.key}", image_dtype, (feature,)))
        elif not is_vector(feature):
            outputs.append(Output(f"observation.{feature.key}", np.dtype(feature.dtype).name, (feature,)))
    outputs.append(actions)
    names = [output.key for output in outputs]
    if len(set(names)) < len(names) or set(names) & set(BOOKKEEPING):
        raise ConfigError(
            f"The keys of the store become {', '.join(names)}, which are not all different. "
            "Name the keys to write with format.keys."
        )
    return outputs
