"""What training needs to continue exactly where it stopped, as safetensors and JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from robopolicy.checkpoint import one_line
from robopolicy_datasets.errors import CheckpointError

STATE, PROGRESS = "training_state.safetensors", "training_progress.json"


def save_state(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: dict[str, Any]
) -> None:
    """Writes raw weights, optimizer moments and progress into ``folder``."""
    tensors = {f"model.{key}": value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    for index, entries in optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value).cpu().contiguous()
    save_file(tensors, folder / STATE)
    (folder / PROGRESS).write_text(json.dumps(progress) + "\n")


def load_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Restores what ``save_state`` wrote and returns the progress.

    Raises:
        CheckpointError: missing, damaged, or of another model.
    """
    try:
        tensors = load_file(folder / STATE)
        progress: dict[str, Any] = json.loads((folder / PROGRESS).read_text())
        model.load_state_dict(
            {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        )
    except (OSError, ValueError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(
            f"Training cannot be resumed from '{folder}': {one_line(error)} The data, policy and "
            "trainer settings must be those of the run."
        ) from error
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            entries.setdefault(int(index), {})[name] = value
    state = optimizer.state_dict()
    optimizer.load_state_dict({"state": entries, "param_groups": state["param_groups"]})
    return progress
