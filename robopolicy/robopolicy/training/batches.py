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
    """Moves a numpy batch of windows to a device."""
    observation = {key: torch.from_numpy(value).to(device) for key, value in batch["observation"].items()}
    return {"observation": observation, "action": torch.from_numpy(batch["action"]).to(device)}


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

    observation = {key: mirrored(key, values) for key, values in batch["observation"].items()}
    return {"observation": observation, "action": mirrored("action", batch["action"])}
