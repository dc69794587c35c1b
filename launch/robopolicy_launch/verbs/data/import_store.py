"""Brings recordings of another format into a demo store.

layout=... names a preset that says what the columns of a known data set mean, e.g. layout=pusht for
Columbia's Push-T demonstrations. Without one every key is kept under its name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig

from robopolicy_datasets.registry import formats
from robopolicy_launch import console
from robopolicy_launch.settings import registered_name

GROUPS: dict[str, str | None] = {"format": "diffusion_policy", "layout": None}
POSITIONAL = ("source", "target")


@dataclass
class Settings:
    """Settings of ``robopolicy data import``.

    Attributes:
        source: what to import.
        target: the new store, a *.zarr folder that does not exist yet.
        format: how the source is written.
        codecs: how the new store encodes what, by key or kind, e.g. codecs.rgb=jpeg:90 for all cameras;
            else without loss (zstd).
    """

    source: str = MISSING
    target: str = MISSING
    format: Any = MISSING
    codecs: dict[str, str] = field(default_factory=dict)


def run(settings: Settings, config: DictConfig) -> int:
    """Imports the source and prints what the new store holds."""
    from robopolicy_datasets.doctor.compression import savings
    from robopolicy_launch.verbs.data.shared import tell

    import_store = formats.load(registered_name("format", settings.format))
    source, target = Path(settings.source).expanduser(), Path(settings.target).expanduser()
    with console.Progress(f"Importing {source.name}") as progress:
        store = import_store(settings.format, source, target, progress, settings.codecs)
    tell(store)
    for saving in savings(store):
        console.line(
            f"  {saving.key} is stored without loss; codecs.rgb={saving.codec} would take "
            f"{saving.share:.0%} of its space, with a mean error of {saving.mean_error:.1f} of 255."
        )
    return 0
