"""Writes a demo store in which chosen episodes have another task text, success or operator.

For example `robopolicy data relabel a.zarr b.zarr episodes=0-9,12 success=false`. The source is not changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING, DictConfig

from robopolicy_launch import console

GROUPS: dict[str, str | None] = {}
POSITIONAL = ("path", "target")


@dataclass
class Settings:
    """Settings of ``robopolicy data relabel``.

    Attributes:
        path: the demo store, a *.zarr folder.
        target: the new store, a *.zarr folder that does not exist yet.
        episodes: the episodes to relabel, e.g. 0-9,12.
        task: what was to be done, as a sentence; empty to leave it.
        success: whether it was done; null to leave it.
        operator: who moved the robot; empty to leave it.
    """

    path: str = MISSING
    target: str = MISSING
    episodes: str = "all"
    task: str = ""
    success: bool | None = None
    operator: str = ""


def run(settings: Settings, config: DictConfig) -> int:
    """Relabels the episodes and prints what the new store holds."""
    from robopolicy_datasets.doctor.edit import relabel_store
    from robopolicy_datasets.doctor.selection import parse_episodes
    from robopolicy_launch.verbs.data.shared import open_store, tell

    store = open_store(settings.path)
    with console.Progress(f"Relabelling {store.path.name}") as progress:
        relabelled = relabel_store(
            store,
            Path(settings.target).expanduser(),
            parse_episodes(settings.episodes, len(store)),
            task=settings.task or None,
            success=settings.success,
            operator=settings.operator or None,
            progress=progress,
        )
    tell(relabelled)
    return 0
