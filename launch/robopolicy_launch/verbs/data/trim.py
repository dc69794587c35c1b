"""Writes a demo store of shortened episodes: without idle steps at both ends, or only the given steps.

A step is idle as long as every position, joint, width and action has stayed near its first value (at the end:
its last). Episodes that are idle throughout are left out. keep=3:10-80,5:0-40 cuts episode 3 to its steps 10
to 80 and episode 5 to 0 to 40 instead, and leaves the others whole. The source is not changed.
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
    """Settings of ``robopolicy data trim``.

    Attributes:
        path: the demo store, a *.zarr folder.
        target: the new store, a *.zarr folder that does not exist yet.
        keep: the steps to keep of single episodes, episode:first-last, both steps included.
        still: how far an idle value may be away, as a share of its usual range in the store.
        margin: idle steps to keep at each end.
    """

    path: str = MISSING
    target: str = MISSING
    keep: str = ""
    still: float = 0.01
    margin: int = 2


def run(settings: Settings, config: DictConfig) -> int:
    """Trims the store and prints what the new one holds."""
    from robopolicy_datasets.doctor.edit import trim_store
    from robopolicy_datasets.doctor.findings import counted
    from robopolicy_datasets.doctor.selection import parse_steps
    from robopolicy_launch.verbs.data.shared import open_store, tell

    store = open_store(settings.path)
    with console.Progress(f"Trimming {store.path.name}") as progress:
        trimmed = trim_store(
            store,
            Path(settings.target).expanduser(),
            keep=parse_steps(settings.keep) if settings.keep else None,
            still=settings.still,
            margin=settings.margin,
            progress=progress,
        )
    steps = counted(store.num_steps - trimmed.num_steps, "step")
    episodes = counted(len(store) - len(trimmed), "idle episode")
    console.line(f"{steps} of {store.num_steps} dropped, {episodes} left out.")
    tell(trimmed)
    return 0
