"""Writes a demo store in another format.

format=lerobot writes a LeRobot v3.0 data set: its images as video, or without loss with format.codec=png.
format=diffusion_policy writes a replay buffer (zarr v2); in a zip as UMI has it where target ends in .zip.
format=robomimic writes an HDF5 file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig

from robopolicy_datasets.registry import formats
from robopolicy_launch import console
from robopolicy_launch.settings import registered_name

GROUPS: dict[str, str | None] = {"format": "lerobot"}
POSITIONAL = ("source", "target")


@dataclass
class Settings:
    """Settings of ``robopolicy data export``.

    Attributes:
        source: the demo store, a *.zarr folder.
        target: the new data set, a folder or file that does not exist yet.
        format: how it is written.
    """

    source: str = MISSING
    target: str = MISSING
    format: Any = MISSING


def run(settings: Settings, config: DictConfig) -> int:
    """Exports the store and prints what was written."""
    export_store = formats.load_exporter(registered_name("format", settings.format))
    source, target = Path(settings.source).expanduser(), Path(settings.target).expanduser()
    with console.Progress(f"Exporting {source.name}") as progress:
        export_store(settings.format, source, target, progress)
    files = [path for path in (target, *target.rglob("*")) if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    console.print_table({"path": str(target), "files": str(len(files)), "on disk": f"{size / 1e6:.1f} MB"})
    return 0
