"""What an earlier run was made with, read from its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from robopolicy_datasets.errors import CheckpointError, ConfigError


def saved_command(path: str | Path, *, verb: str = "") -> list[str]:
    """Returns the arguments that a run folder was made with; empty where there are none.

    Args:
        path: a run folder or anything inside one.
        verb: that must have made it; empty: any.

    Raises:
        ConfigError: its settings cannot be read, or another verb made it.
    """
    folder = _run_folder(path)
    if folder is None:
        return []
    config = _load(folder / "config.yaml")
    made_by = config.get("verb", verb)
    if verb and made_by != verb:
        raise ConfigError(
            f"'{folder}' was made by 'robopolicy {made_by}'; 'robopolicy {verb}' cannot continue it. "
            f"Give a folder that 'robopolicy {verb}' made."
        )
    words = config.get("command")
    return [str(word) for word in words] if isinstance(words, ListConfig) else []


def saved_setting(path: str | Path, key: str) -> Any:
    """Returns a setting that a run folder was made with; None where there is none.

    Args:
        path: a run folder or anything inside one.
        key: of the setting, e.g. ``trainer.validation_fraction``.

    Raises:
        ConfigError: its settings cannot be read.
    """
    folder = _run_folder(path)
    return None if folder is None else OmegaConf.select(_load(folder / "config.yaml"), key)


def _run_folder(path: str | Path) -> Path | None:
    """Returns the run folder with checkpoints that a path is in, or that it is."""
    given = Path(path).expanduser().absolute()
    for folder in (given, *list(given.parents)[:3]):
        if (folder / "config.yaml").is_file() and (folder / "checkpoints").is_dir():
            return folder
    return None


def _load(file: Path) -> DictConfig:
    try:
        config = OmegaConf.load(file)
    except (OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"'{file}' cannot be read: {error}. Restore it, or name the task (task=...)."
        ) from error
    return config if isinstance(config, DictConfig) else OmegaConf.create()


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
