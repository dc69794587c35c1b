"""Records demonstrations into a store.

teleop=scripted lets the task's scripted expert demonstrate in simulation, with human-like variation;
teleop=keyboard, gamepad and spacemouse open a window in which you demonstrate.
With robot=NAME you drive that robot, real or simulated, in real time, also with teleop=leader; teleop=replay
drives it as in a store. The task then counts for nothing.
An interrupted collection keeps the episodes recorded so far.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig

from robopolicy_datasets.errors import ConfigError
from robopolicy_launch.run_folder import RunFolder
from robopolicy_launch.stages.collecting import collect

GROUPS: dict[str, str | None] = {"teleop": "scripted", "task": "pick_place", "robot": None}
POSITIONAL: tuple[str, ...] = ()


@dataclass
class Settings:
    """Settings of ``robopolicy collect``.

    Attributes:
        episodes: number of demonstrations.
        output: the store, a *.zarr folder; empty: demos.zarr in the run folder.
        seed: of the first episode; the others follow.
        codecs: how the store encodes what, by key or kind, e.g. codecs.rgb=jpeg:90 for all cameras; else
            without loss (zstd).
        workers: processes that demonstrate at the same time; the store is the same.
        name: a word for the run folder's name.
        runs: where run folders lie.
        teleop: who demonstrates.
        task: what is demonstrated in simulation.
        robot: what is driven; none: the task's robots in simulation.
        rate_hz: steps a second on a robot.
        instruction: what is demonstrated on a robot, in words.
    """

    episodes: int = 200
    output: str = ""
    seed: int = 0
    codecs: dict[str, str] = field(default_factory=dict)
    workers: int = 1
    name: str = ""
    runs: str = "runs"
    teleop: Any = MISSING
    task: Any = MISSING
    robot: Any = None
    rate_hz: float = 10.0
    instruction: str = ""


def run(settings: Settings, config: DictConfig) -> int:
    """Records the demonstrations."""
    with RunFolder.create("collect", root=settings.runs, name=settings.name, config=config) as folder:
        output = Path(settings.output).expanduser() if settings.output else folder.path / "demos.zarr"
        demonstrate = _in_simulation if settings.robot is None else _on_robot
        figures = demonstrate(settings, output)
        folder.add_figures({**figures, "store": str(output)})
        folder.finish()
    return 0


def _in_simulation(settings: Settings, output: Path) -> dict[str, Any]:
    return collect(
        settings.teleop,
        settings.task,
        output,
        episodes=settings.episodes,
        seed=settings.seed,
        codecs=settings.codecs,
        workers=settings.workers,
    )


def _on_robot(settings: Settings, output: Path) -> dict[str, Any]:
    from robopolicy_launch.stages.recording import RecordingSettings, record

    if settings.workers != 1:
        raise ConfigError(f"workers is {settings.workers}; a robot is driven by one person: give workers=1.")
    return record(
        settings.teleop,
        settings.robot,
        output,
        episodes=settings.episodes,
        seed=settings.seed,
        settings=RecordingSettings(settings.rate_hz, settings.instruction, settings.codecs),
    )
