"""What an earlier run was made with, read from its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from robopolicy_datasets.errors import CheckpointError


def saved_command(path: str | Path) -> list[str]:
    """Returns the arguments that a run folder was made with; empty where there are none.

    Args:
        path: a run folder or anything inside one.
    """
    given = Path(path).expanduser().absolute()
    for folder in (given, *list(given.parents)[:3]):
        if (folder / "config.yaml").is_file():
            words = OmegaConf.select(OmegaConf.load(folder / "config.yaml"), "command")
            return [str(word) for word in words or []]
    return []


def with_task_of(arguments: Sequence[str]) -> list[str]:
    """Adds the task that ``checkpoint=...`` was trained for, where the arguments name no task.

    Raises:
        CheckpointError: there is nothing at the checkpoint's path.
    """
    given = next((word.partition("=")[2] for word in arguments if word.startswith("checkpoint=")), "")
    if not given:
        given = next((word for word in arguments if "=" not in word), "")
    if not given or any(word.startswith("task=") for word in arguments):
        return list(arguments)
    if not Path(given).expanduser().exists():
        raise CheckpointError(
            f"The checkpoint '{given}' does not exist. Give a checkpoint folder, or the run folder of a "
            "training."
        )
    words = [word for word in saved_command(given) if word.startswith(("task=", "task."))]
    return [*words, *arguments]
