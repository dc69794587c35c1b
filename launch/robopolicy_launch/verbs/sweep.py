"""Trains once for each value of one setting, and chooses by the error on held-out episodes.

Give the values from the one you would like best on: chosen is the first whose error is within the tolerance
of the smallest. So the smallest Lipschitz bound that still fits is found by
key=policy.bound values=[1,2,4,8] policy=lipschitz. All other settings are those of robopolicy train.
The same command again goes on where it was stopped: trainings lie in RUNS/sweep-cells under the hash of
their settings. Remove them when the data has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig

from robopolicy_datasets.errors import ConfigError
from robopolicy_launch import console
from robopolicy_launch.run_folder import RunFolder
from robopolicy_launch.settings import compose
from robopolicy_launch.verbs import train

GROUPS = train.GROUPS
POSITIONAL: tuple[str, ...] = ()
OWN = ("key", "values", "tolerance", "runs", "name")
ERROR = "action_error"  # of held-out episodes, in the action's own units


@dataclass
class Settings(train.Settings):
    """Settings of ``robopolicy sweep``, beside those of ``robopolicy train``.

    Attributes:
        data: the demo store to learn from, or several in brackets.
        data_weights: how much each of several stores counts; [] for all steps alike.
        resume: not for sweeps: give the same command again.
        evaluate: measure closed-loop success of each.
        evaluate_episodes: episodes in a measurement of success.
        evaluate_every: training steps between measurements for a learning curve; 0: none.
        evaluate_every_minutes: minutes of training between measurements; 0: none.
        first_seed: of the episodes.
        name: a word for the run folder's name.
        runs: where run folders lie.
        policy: what is trained.
        task: what it is trained for.
        trainer: how it is trained.
        key: of the setting, e.g. policy.bound.
        values: of it, the most wanted first.
        tolerance: by how much of the smallest error the chosen one may be worse.
    """

    key: str = MISSING
    values: list[str] = MISSING
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        if not self.values or not self.tolerance >= 0:
            raise ConfigError(
                f"values={self.values} tolerance={self.tolerance}: give one value or more, and a tolerance "
                "that is not negative."
            )
        if self.resume:
            raise ConfigError("A sweep goes on when the same command is given again, without resume.")


def run(settings: Settings, config: DictConfig) -> int:
    """Trains, and chooses."""
    words = [str(word) for word in config["command"] if str(word).partition("=")[0] not in OWN]
    trained: dict[str, Path] = {}
    errors: dict[str, float] = {}
    with RunFolder.create("sweep", root=settings.runs, name=settings.name, config=config) as folder:
        for value in settings.values:
            trained[value] = _train([*words, f"{settings.key}={value}"], Path(settings.runs).expanduser())
            error = _figures(trained[value]).get(ERROR)
            if error is None:
                raise ConfigError(
                    f"The training with {settings.key}={value} has no {ERROR}: no episode was held out. Set "
                    "trainer.validation_fraction so that at least one is."
                )
            errors[value] = error
        best = choose(errors, settings.tolerance)
        console.table(
            [(value, error, "chosen" if value == best else "") for value, error in errors.items()],
            header=(settings.key, ERROR, ""),
        )
        folder.add_figures({f"{ERROR}_{value}": error for value, error in errors.items()})
        folder.add_figures({"chosen": best, "chosen_run": str(trained[best])})
        folder.finish()
    return 0


def choose(errors: Mapping[str, float], tolerance: float) -> str:
    """Returns the first value whose error is within ``tolerance`` of the smallest.

    Args:
        errors: by value, the most wanted first.
        tolerance: as a part of the smallest error.
    """
    limit = (1 + tolerance) * min(errors.values())
    return next(value for value, error in errors.items() if error <= limit)


def _train(words: Sequence[str], runs: Path) -> Path:
    """Trains with these arguments, or goes on with that, unless it was done; returns the run folder."""
    digest = hashlib.sha256(json.dumps(list(words)).encode()).hexdigest()[:12]
    cell = runs / "sweep-cells" / digest
    for begun in sorted(cell.glob("train/*")):
        if _figures(begun):
            return begun
    stopped = [folder for folder in cell.glob("train/*") if (folder / "checkpoints" / "last").is_dir()]
    own = [f"resume={stopped[0]}"] if stopped else [*words, f"runs={cell}"]
    composed = compose("train", train, train.complete_arguments(own))
    train.run(composed.settings, composed.config)
    return next(folder for folder in cell.glob("train/*") if _figures(folder))


def _figures(folder: Path) -> dict[str, Any]:
    """Returns the figures of a training that came to its end."""
    path = folder / "summary.json"
    figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {} if figures.get("interrupted") else figures
