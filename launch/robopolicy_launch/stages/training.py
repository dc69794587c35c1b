"""Training: a policy on one or several stores, with a learning curve from closed-loop episodes on demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.registry import load_target
from robopolicy_launch.settings import registered_name
from robopolicy_launch.stages.evaluating import check_seeds

if TYPE_CHECKING:
    from robopolicy_datasets.store.demo_store import DemoStore


class LearningCurve:
    """Measures closed-loop success now and then during the training; the trainer calls it at each checkpoint.

    Args:
        task: config of the task.
        episodes: in each measurement.
        first_seed: of the episodes.
        every_steps: training steps between measurements; 0 for none.
        every_minutes: minutes of training between measurements; 0 for none.
    """

    def __init__(
        self, task: Any, *, episodes: int, first_seed: int, every_steps: int, every_minutes: float
    ) -> None:
        check_seeds(episodes, first_seed)
        if every_steps < 0 or every_minutes < 0:
            raise ConfigError("evaluate_every and evaluate_every_minutes must be at least 0.")
        self.task = task
        self.seeds = range(first_seed, first_seed + episodes)
        self.every_steps = every_steps
        self.every_seconds = 60.0 * every_minutes
        self._next_step = every_steps
        self._next_seconds = self.every_seconds

    def __call__(self, step: int, policy: Any, seconds: float) -> dict[str, float]:
        """Measures where it is time to.

        Args:
            step: optimizer steps done.
            policy: with the averaged weights.
            seconds: of training so far.

        Returns:
            ``eval_*`` metrics, or nothing.
        """
        if not self._is_due(step, seconds):
            return {}
        from robopolicy.evaluation.closed_loop import evaluate

        summary = evaluate(policy, self.task, seeds=self.seeds)
        return {f"eval_{key}": summary[key] for key in ("success", "success_low", "success_high", "score")}

    def _is_due(self, step: int, seconds: float) -> bool:
        by_steps = self.every_steps > 0 and step >= self._next_step
        by_time = self.every_seconds > 0 and seconds >= self._next_seconds
        if by_steps:
            self._next_step = (step // self.every_steps + 1) * self.every_steps
        if by_time:
            self._next_seconds = (seconds // self.every_seconds + 1) * self.every_seconds
        return by_steps or by_time


def train(
    policy: Any,
    trainer: Any,
    task: Any,
    stores: Sequence[DemoStore],
    folder: Path,
    *,
    weights: Sequence[float] | None = None,
    resume: bool = False,
    curve: LearningCurve | None = None,
    on_start: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Trains a policy.

    Args:
        policy: config of a registered policy.
        trainer: the trainer's config.
        task: config of the task, which may have a mirror symmetry.
        stores: the demonstrations.
        folder: the run folder; checkpoints and metrics go there.
        weights: how much each store counts; by default all windows alike.
        resume: go on with the training that the folder holds.
        curve: measures success during the training.
        on_start: called once everything is loaded and fits, before anything in the folder changes.

    Returns:
        The trainer's figures; ``interrupted`` is 1 where SIGINT ended it early.
    """
    from robopolicy.training.trainer import train as run_trainer

    callbacks = []
    if curve is not None:
        callbacks.append(curve)
        if curve.every_steps:
            trainer = replace(trainer, checkpoint_every=min(trainer.checkpoint_every, curve.every_steps))
    name = registered_name("policy", policy)
    symmetry = getattr(task, "mirror", None)
    mirror = load_target(symmetry) if symmetry else None
    figures = run_trainer(
        name,
        policy,
        trainer,
        stores,
        folder,
        weights=weights,
        resume=resume,
        mirror=mirror,
        callbacks=callbacks,
        on_start=on_start,
    )
    return dict(figures)
