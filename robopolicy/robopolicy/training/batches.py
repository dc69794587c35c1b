"""Batches of windows on their way to the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def to_tensors(batch: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Moves a numpy batch of windows to a device."""
    observation = {key: torch.from_numpy(value).to(device) for key, value in batch["observation"].items()}
    return {"observation": observation, "action": torch.from_numpy(batch["action"]).to(device)}
