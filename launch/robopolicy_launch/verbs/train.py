"""Trains a policy on a store, or on several: data=[a.zarr,b.zarr] data_weights=[0.7,0.3].

The task decides what the policy sees (recipe=<task>; recipe=none for none). The recipe's other policy
settings are tuned for the default policy and hold for it only; policy=diffusion, say, keeps its own.
resume=RUN_FOLDER continues an interrupted training with its own settings; further arguments change them, e.g.
trainer.steps=20000.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING, DictConfig

from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_datasets.history import with_histories
from robopolicy_launch.reports import report
from robopolicy_launch.run_folder import RunFolder
from robopolicy_launch.settings import registered_name
from robopolicy_launch.stages.evaluating import check_runs_here, check_seeds, evaluate
from robopolicy_launch.stages.saved_runs import saved_command
from robopolicy_launch.stages.training import LearningCurve, train

if TYPE_CHECKING:
    from robopolicy_datasets.store.demo_store import DemoStore

GROUPS: dict[str, str | None] = {
    "policy": "flow",
    "task": "pick_place",
    "trainer": "default",
    "recipe": "${task}",
}
POSITIONAL: tuple[str, ...] = ()
VIDEOS = 4  # of the evaluation at the end


@dataclass
class Settings:
    """Settings of ``robopolicy train``.

    Attributes:
        data: the demo store to learn from, or several in brackets.
        data_weights: how much each of several stores counts; [] for all steps alike.
        resume: run folder of a training to continue.
        evaluate: measure closed-loop success at the end.
        evaluate_episodes: episodes in a measurement of success.
        evaluate_every: training steps between measurements for a learning curve; 0: none.
        evaluate_every_minutes: minutes of training between measurements, each at the next checkpoint
            (trainer.checkpoint_every); 0: none.
        first_seed: of the episodes.
        name: a word for the run folder's name.
        runs: where run folders lie.
        policy: what is trained.
        task: what it is trained for.
        trainer: how it is trained.
    """

    data: list[str] = MISSING
    data_weights: list[float] = field(default_factory=list)
    resume: str = ""
    evaluate: bool = False
    evaluate_episodes: int = 50
    evaluate_every: int = 0
    evaluate_every_minutes: float = 0.0
    first_seed: int = 100_000
    name: str = ""
    runs: str = "runs"
    policy: Any = MISSING
    task: Any = MISSING
    trainer: Any = MISSING


def complete_arguments(arguments: Sequence[str]) -> list[str]:
    """Puts the settings of the training that is resumed before the given ones."""
    given = next((word.partition("=")[2] for word in arguments if word.startswith("resume=")), "")
    if not given:
        return list(arguments)
    saved = saved_command(given, verb="train")
    if not saved:
        raise ConfigError(
            f"'{given}' is not the run folder of a training: it has no config.yaml with its settings."
        )
    return [*(word for word in saved if not word.startswith("resume=")), *arguments]


def run(settings: Settings, config: DictConfig) -> int:
    """Trains, and evaluates where asked."""
    from robopolicy_datasets.store.demo_store import DemoStore

    stores = [DemoStore.open(Path(path).expanduser()) for path in settings.data]
    for store in stores:
        _check_observations(settings, store)
    curve = None
    if settings.evaluate_every or settings.evaluate_every_minutes:
        curve = LearningCurve(
            settings.task,
            episodes=settings.evaluate_episodes,
            first_seed=settings.first_seed,
            every_steps=settings.evaluate_every,
            every_minutes=settings.evaluate_every_minutes,
        )
    if settings.evaluate:
        check_seeds(settings.evaluate_episodes, settings.first_seed)
    if settings.evaluate or curve is not None:
        check_runs_here(settings.task, videos=VIDEOS if settings.evaluate else 0)
    if (
        int(os.environ.get("RANK", "0")) > 0
    ):  # under torchrun: the first process writes, the others only compute
        return _help_to_train(settings, stores)
    with _folder(settings, config) as folder:
        figures = train(
            settings.policy,
            settings.trainer,
            settings.task,
            stores,
            folder.path,
            weights=settings.data_weights or None,
            resume=bool(settings.resume),
            curve=curve,
            # not before: settings that do not fit the checkpoint must not spoil a plain resume later
            on_start=lambda: folder.save_config(config),
        )
        folder.add_figures(figures)
        if settings.evaluate and not figures["interrupted"]:
            _evaluate(settings, folder)
        report.write(folder, "Training")
        folder.finish()
    if figures["interrupted"]:
        interrupt = KeyboardInterrupt()
        interrupt.add_note(f"Continue with: robopolicy train resume={folder.path}")
        raise interrupt
    return 0


def _check_observations(settings: Settings, store: DemoStore) -> None:
    """Refuses a store that lacks what the policy is to see."""
    spans = getattr(settings.policy, "streams", {})
    spec = with_histories(store.spec, store.streams, spans, f"store '{store.path}'")
    offered = [feature.key for feature in spec.observation]
    lacking = [key for key in getattr(settings.policy, "observation_keys", ()) if key not in offered]
    if lacking:
        task = registered_name("task", settings.task)
        raise SpecError(
            f"'{store.path}' has no {', '.join(lacking)}, which the policy is to see "
            f"(policy.observation_keys, by default from the recipe of task={task}). "
            f"It has: {', '.join(offered)}. Choose the task of the data (task=...), or set "
            "policy.observation_keys."
        )


def _help_to_train(settings: Settings, stores: list[DemoStore]) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(settings.resume or scratch).expanduser()
        train(
            settings.policy,
            settings.trainer,
            settings.task,
            stores,
            folder,
            weights=settings.data_weights or None,
            resume=bool(settings.resume),
        )
    return 0


def _evaluate(settings: Settings, folder: RunFolder) -> None:
    figures = evaluate(
        folder.path,
        settings.task,
        folder.path / "evaluation",
        episodes=settings.evaluate_episodes,
        first_seed=settings.first_seed,
        videos=VIDEOS,
    )
    folder.add_figures(figures, prefix="eval_")


def _folder(settings: Settings, config: DictConfig) -> RunFolder:
    if settings.resume:
        return RunFolder.open(settings.resume)
    return RunFolder.create("train", root=settings.runs, name=settings.name, config=config)
