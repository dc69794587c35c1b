"""What training needs to continue exactly where it stopped, as safetensors and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from robopolicy.checkpoint import one_line
from robopolicy_datasets.errors import CheckpointError

STATE, PROGRESS = "training_state.safetensors", "training_progress.json"


@dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Attributes:
        step: the last one taken.
        seconds: that the steps took.
        losses: of the steps since the last line of metrics.
        data_fingerprint: of what it is trained on.
    """

    step: int
    seconds: float
    losses: list[float]
    data_fingerprint: str


def save_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Writes raw weights, the optimizer's moments by their parameter's name, and progress into ``folder``."""
    tensors = {f"model.{key}": value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    names = _names(model, optimizer)
    for index, entries in optimizer.state_dict()["state"].items():
        for entry, value in entries.items():
            tensors[f"optimizer.{names[index]}.{entry}"] = torch.as_tensor(value).cpu().contiguous()
    save_file(tensors, folder / STATE)
    (folder / PROGRESS).write_text(json.dumps(asdict(progress)) + "\n")


def load_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Restores what ``save_state`` wrote and returns the progress.

    Raises:
        CheckpointError: missing, damaged, or of another model.
    """
    try:
        tensors = load_file(folder / STATE)
        model.load_state_dict(_under("model.", tensors))
        moments = _moments(_under("optimizer.", tensors), model, optimizer)
        progress = _progress(json.loads((folder / PROGRESS).read_text()))
    except (OSError, KeyError, TypeError, ValueError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(
            f"Training cannot be resumed from '{folder}': {one_line(error)} The data, policy and "
            "trainer settings must be those of the run, and the version of robopolicy too."
        ) from error
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    return progress


def _names(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Returns the names of an optimizer's parameters, in the order of its groups."""
    name_of = {parameter: name for name, parameter in model.named_parameters()}
    return [name_of[parameter] for group in optimizer.param_groups for parameter in group["params"]]


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _moments(
    tensors: dict[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[int, dict[str, Tensor]]:
    """Returns the optimizer's state by the places of its parameters.

    Raises:
        ValueError: there is none, or some of a parameter that the model does not have.
    """
    places = {name: place for place, name in enumerate(_names(model, optimizer))}
    found: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, entry = key.rpartition(".")
        if name not in places:
            raise ValueError(f"it has the optimizer's state of '{name}', which is no parameter of the policy")
        found.setdefault(places[name], {})[entry] = value
    if not found:
        raise ValueError("it lacks the optimizer's state")
    return found


def _progress(content: Any) -> Progress:
    return Progress(
        step=int(content["step"]),
        seconds=float(content["seconds"]),
        losses=[float(loss) for loss in content["losses"]],
        data_fingerprint=str(content["data_fingerprint"]),
    )
