"""Shows the range, mean, spread and percentiles of every component of every feature.

Of images a sample is read. Values that are not finite are left out of the figures and told below.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING, DictConfig

from robopolicy_datasets.errors import ConfigError
from robopolicy_launch import console

GROUPS: dict[str, str | None] = {}
POSITIONAL = ("path",)

MAX_COMPONENTS = 32  # of one feature, in the table; the JSON file has all


@dataclass
class Settings:
    """Settings of ``robopolicy data stats``.

    Attributes:
        path: the demo store, a *.zarr folder.
        json: a file that the figures of all components are written to.
        images: images of each camera that are looked at.
    """

    path: str = MISSING
    json: str = ""
    images: int = 200

    def __post_init__(self) -> None:
        if self.images < 0:
            raise ConfigError(f"images={self.images} is not possible; give 0 or more.")


def run(settings: Settings, config: DictConfig) -> int:
    """Prints the statistics."""
    from robopolicy_datasets.doctor.statistics import HEADER, statistics
    from robopolicy_datasets.store.demo_store import DemoStore
    from robopolicy_launch.run_folder import write_text_atomic

    store = DemoStore.open(Path(settings.path).expanduser())
    found = statistics(store, image_samples=settings.images)
    if settings.json:
        content = {"path": str(store.path), "components": [one.to_json() for one in found]}
        write_text_atomic(Path(settings.json).expanduser(), json.dumps(content, indent=2) + "\n")
    console.table([one.row() for one in found if one.component < MAX_COMPONENTS], header=HEADER)
    if any(one.component >= MAX_COMPONENTS for one in found):
        console.line(f"  Only the first {MAX_COMPONENTS} components of a key; json=FILE writes all of them.")
    for one in found:
        if one.not_finite:
            console.line(f"  {one.key}[{one.component}]: {one.not_finite} values are not finite.")
    return 0
