"""Merges two or more demo stores into a new one, e.g. `robopolicy data merge a.zarr b.zarr target=all.zarr`.

The stores must have the same rate and the same keys with the same meaning; floats and integers of different
width take the widest. The sources are not changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING, DictConfig

from robopolicy_launch import console

GROUPS: dict[str, str | None] = {}
POSITIONAL = ("sources...",)


@dataclass
class Settings:
    """Settings of ``robopolicy data merge``.

    Attributes:
        sources: the demo stores, in the order of the new one.
        target: the new store, a *.zarr folder that does not exist yet.
        drop: leave out the keys that not all stores have; otherwise they are refused.
    """

    sources: list[str] = MISSING
    target: str = MISSING
    drop: bool = False


def run(settings: Settings, config: DictConfig) -> int:
    """Merges the stores and prints what the new one holds."""
    from robopolicy_datasets.doctor.merge import merge_stores
    from robopolicy_launch.verbs.data.shared import open_store, tell

    stores = [open_store(source) for source in settings.sources]
    target = Path(settings.target).expanduser()
    with console.Progress(f"Merging into {target.name}") as progress:
        merged = merge_stores(stores, target, drop=settings.drop, progress=progress)
    tell(merged)
    return 0
