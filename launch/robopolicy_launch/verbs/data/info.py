"""Shows what a demo store holds: episodes, length, size, successes and every feature."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING, DictConfig

from robopolicy_launch import console

GROUPS: dict[str, str | None] = {}
POSITIONAL = ("path",)


@dataclass
class Settings:
    """Settings of ``robopolicy data info``.

    Attributes:
        path: the demo store, a *.zarr folder; diffusion_policy's folders and zips are read too.
    """

    path: str = MISSING


def run(settings: Settings, config: DictConfig) -> int:
    """Prints the store's figures and features."""
    from pathlib import Path

    from robopolicy_datasets.store.demo_store import DemoStore
    from robopolicy_datasets.store.summary import HEADER, summarise

    summary = summarise(DemoStore.open(Path(settings.path).expanduser()))
    console.print_table(dict(summary.figures()))
    console.line()
    console.table(summary.features(), header=HEADER)
    return 0
