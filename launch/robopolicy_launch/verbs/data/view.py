"""Shows a demo store's episodes: images, plots, events.

An .html target is one page that needs no network. An .rrd target is a recording for Rerun's viewer (`rerun
view.rrd`, extra viz) with every image and stream. Without episodes=... the first ten are shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING, DictConfig

from robopolicy_datasets.errors import ConfigError
from robopolicy_launch import console

GROUPS: dict[str, str | None] = {}
POSITIONAL = ("path", "target")

SHOWN = 10  # episodes, where none are chosen
RECORDING = ".rrd"
SUFFIXES = (".html", ".htm", RECORDING)


@dataclass
class Settings:
    """Settings of ``robopolicy data view``.

    Attributes:
        path: the demo store, a *.zarr folder.
        target: the .html or .rrd file; replaced where it is there.
        episodes: the episodes to show, e.g. 0-9,12, or all.
        frames: images of each camera in an episode of a page; a recording has all.
    """

    path: str = MISSING
    target: str = "view.html"
    episodes: str = ""
    frames: int = 12

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ConfigError(f"frames={self.frames} is not possible; give 1 or more.")
        if Path(self.target).suffix not in SUFFIXES:
            raise ConfigError(
                f"target={self.target} cannot be written; give the name of an {' or '.join(SUFFIXES)} file."
            )


def run(settings: Settings, config: DictConfig) -> int:
    """Writes the page or recording and prints where it is."""
    from robopolicy_datasets.doctor.selection import parse_episodes
    from robopolicy_launch.verbs.data.shared import open_store

    store = open_store(settings.path)
    if settings.episodes:
        chosen = parse_episodes(settings.episodes, len(store))
    else:
        chosen = list(range(min(SHOWN, len(store))))
    target = Path(settings.target).expanduser()
    with console.Progress("Drawing episodes") as progress:
        if target.suffix == RECORDING:
            from robopolicy_launch.reports.store_recording import write_store_recording

            write_store_recording(store, target, chosen, progress=progress)
        else:
            from robopolicy_launch.reports.store_page import write_store_page

            write_store_page(store, target, chosen, frames=settings.frames, progress=progress)
    console.line(f"{len(chosen)} of {len(store)} episodes: {target}")
    return 0
