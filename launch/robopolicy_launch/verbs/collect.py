"""Records demonstrations into a store.

teleop=scripted lets the task's scripted expert demonstrate in simulation, with human-like variation;
teleop=keyboard opens a window in which you demonstrate with keyboard and mouse.
An interrupted collection keeps the episodes recorded so far.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig

from robopolicy_launch.run_folder import RunFolder
from robopolicy_launch.stages.collecting import collect

GROUPS: dict[str, str | None] = {"teleop": "scripted", "task": "pick_place"}
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
        task: what is demonstrated.
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


def run(settings: Settings, config: DictConfig) -> int:
    """Records the demonstrations."""
    with RunFolder.create("collect", root=settings.runs, name=settings.name, config=config) as folder:
        output = Path(settings.output).expanduser() if settings.output else folder.path / "demos.zarr"
        figures = collect(
            settings.teleop,
            settings.task,
            output,
            episodes=settings.episodes,
            seed=settings.seed,
            codecs=settings.codecs,
            workers=settings.workers,
        )
        folder.add_figures({**figures, "store": str(output)})
        folder.finish()
    return 0
