"""Shows the whole job in minutes on a laptop's CPU.

Collects demonstrations of the scripted expert in MuJoCo, trains a policy that sees cameras and
proprioception only, evaluates it on unseen seeds, and lets it drive the simulated robot, which runs in
another process in real time, through the driver interface. Everything is in one run folder; open its
report.html.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING, DictConfig

from robopolicy_launch import console
from robopolicy_launch.reports import report
from robopolicy_launch.run_folder import RunFolder
from robopolicy_launch.stages.collecting import collect
from robopolicy_launch.stages.deploying import deploy
from robopolicy_launch.stages.evaluating import evaluate
from robopolicy_launch.stages.training import train

logger = logging.getLogger(__name__)

GROUPS: dict[str, str | None] = {
    "teleop": "scripted",
    "task": "pick_place",
    "policy": "flow",
    "trainer": "default",
    "robot": "sim",
    "recipe": "demo",
}
POSITIONAL: tuple[str, ...] = ()


@dataclass
class Settings:
    """Settings of ``robopolicy demo``.

    Attributes:
        demonstrations: episodes to collect.
        demonstration_seed: of the first demonstration.
        evaluate_episodes: unseen seeds to evaluate in simulation.
        evaluate_first_seed: the first of them.
        deploy_episodes: episodes on the robot.
        deploy_first_seed: of their scenes.
        deploy_seconds: longest duration of an episode on the robot [s].
        name: a word for the run folder's name.
        runs: where run folders lie.
        teleop: who demonstrates.
        task: what is demonstrated.
        policy: what is trained.
        trainer: how it is trained.
        robot: what the policy drives in the end.
    """

    demonstrations: int = 600
    demonstration_seed: int = 0
    evaluate_episodes: int = 100
    evaluate_first_seed: int = 100_000
    deploy_episodes: int = 10
    deploy_first_seed: int = 200_000
    deploy_seconds: float = 15.0
    name: str = ""
    runs: str = "runs"
    teleop: Any = MISSING
    task: Any = MISSING
    policy: Any = MISSING
    trainer: Any = MISSING
    robot: Any = MISSING


def run(settings: Settings, config: DictConfig) -> int:
    """Runs all stages; each adds its figures to the summary under its own prefix."""
    with RunFolder.create("demo", root=settings.runs, name=settings.name, config=config) as folder:
        stages = {
            "collect": lambda: _collect(settings, folder),
            "train": lambda: _train(settings, folder),
            "eval": lambda: _evaluate(settings, folder),
            "deploy": lambda: _deploy(settings, folder),
        }
        seconds: dict[str, float] = {}
        for number, (name, stage) in enumerate(stages.items(), start=1):
            console.line(f"[{number}/{len(stages)}] {name} ...")
            try:
                seconds[name] = _run_stage(name, stage, folder)
            except Exception as error:
                if seconds:  # else nothing is there to report
                    _report_failure(folder, seconds, f"The stage '{name}' failed: {error}")
                raise
        late_ticks = folder.summary.get("deploy_late_ticks")
        folder.add_figures({"late_ticks": late_ticks, "minutes": folder.minutes})
        report.write(folder, "robopolicy demo", stages=seconds)
        folder.finish()
    return 0


def _report_failure(folder: RunFolder, seconds: dict[str, float], failure: str) -> None:
    """Reports the finished stages; the failure itself goes on to the user, whatever happens here."""
    try:
        report.write(folder, "robopolicy demo", stages=seconds, failure=failure)
    except Exception:
        logger.warning("The report of the finished stages could not be written.", exc_info=True)


def _run_stage(name: str, stage: Callable[[], dict[str, Any]], folder: RunFolder) -> float:
    started = time.monotonic()
    figures = stage()
    seconds = time.monotonic() - started
    folder.add_figures({**figures, "seconds": seconds}, prefix=f"{name}_")
    told = [f"{key} {console.format_value(figures[key])}" for key in HEADLINES[name] if key in figures]
    console.line(f"      {', '.join([*told, f'{seconds:.0f} s'])}")
    return seconds


HEADLINES = {
    "collect": ("episodes", "steps"),
    "train": ("steps", "parameters", "loss", "validation_loss"),
    "eval": ("episodes", "success", "success_low", "success_high"),
    "deploy": ("episodes", "success", "late_ticks", "max_lateness_ms"),
}


def _collect(settings: Settings, folder: RunFolder) -> dict[str, Any]:
    return collect(
        settings.teleop,
        settings.task,
        folder.path / "demos.zarr",
        episodes=settings.demonstrations,
        seed=settings.demonstration_seed,
    )


def _train(settings: Settings, folder: RunFolder) -> dict[str, Any]:
    from robopolicy_datasets.store.demo_store import DemoStore

    store = DemoStore.open(folder.path / "demos.zarr")
    figures = train(settings.policy, settings.trainer, settings.task, [store], folder.path)
    if figures["interrupted"]:
        raise KeyboardInterrupt
    return {key.removeprefix("train_"): value for key, value in figures.items() if key != "train_seconds"}


def _evaluate(settings: Settings, folder: RunFolder) -> dict[str, Any]:
    return evaluate(
        folder.path,
        settings.task,
        folder.path / "evaluation",
        episodes=settings.evaluate_episodes,
        first_seed=settings.evaluate_first_seed,
        videos=4,
    )


def _deploy(settings: Settings, folder: RunFolder) -> dict[str, Any]:
    from robopolicy.checkpoint import find_checkpoint, load_policy
    from robopolicy_drivers.runtime.preflight import Candidate

    checkpoint = find_checkpoint(folder.path)
    return deploy(
        Candidate(load_policy(checkpoint, threads=1), f"checkpoint '{checkpoint}'", checkpoint),
        settings.robot,
        folder.path / "deployment",
        episodes=settings.deploy_episodes,
        first_seed=settings.deploy_first_seed,
        seconds=settings.deploy_seconds,
        videos=3,
    )
