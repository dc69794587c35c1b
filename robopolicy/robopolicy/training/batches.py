"""Batches of windows on their way to the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robopolicy_datasets.windows import WindowBatch

Mirror = Callable[[str, NDArray[Any]], NDArray[Any]]
"""A task's mirror symmetry: (key, values ``[..., *shape]``) to what a mirror shows."""


def to_tensors(batch: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Moves a numpy batch of windows, with all its parts, to a device."""
    return {
        key: to_tensors(part, device) if isinstance(part, Mapping) else torch.from_numpy(part).to(device)
        for key, part in batch.items()
    }


def mirror_some(batch: WindowBatch, mirror: Mirror, seed: int) -> WindowBatch:
    """Replaces each window, with probability one half, by its mirror image.

    Args:
        batch: of windows; not changed.
        mirror: the task's symmetry.
        seed: of the choice.
    """
    chosen = np.random.default_rng(seed).random(len(batch["action"])) < 0.5

    def mirrored(key: str, values: NDArray[Any]) -> NDArray[Any]:
        result = values.copy()
        result[chosen] = mirror(key, values[chosen])
        return result

    result: WindowBatch = {**batch, "action": mirrored("action", batch["action"])}
    result["observation"] = {key: mirrored(key, values) for key, values in batch["observation"].items()}
    if "streams" in batch:
        result["streams"] = {
            key: {**stream, "value": mirrored(key, stream["value"])}
            for key, stream in batch["streams"].items()
        }
    return result
