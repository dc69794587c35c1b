"""Splits a demo store into two new ones, at random or by a choice of episodes.

fraction=0.1 seed=0 draws the episodes that `robopolicy train` would hold out with the same fraction and seed.
The source is not changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING, DictConfig

from robopolicy_datasets.errors import ConfigError
from robopolicy_launch import console

GROUPS: dict[str, str | None] = {}
POSITIONAL = ("path", "target", "held_out")


@dataclass
class Settings:
    """Settings of ``robopolicy data split``.

    Attributes:
        path: the demo store, a *.zarr folder.
        target: the new store of the episodes that are not held out; must not exist.
        held_out: the new store of those held out; must not exist.
        episodes: the episodes to hold out, e.g. 0-9,12; or give fraction.
        fraction: the share of the episodes to hold out, drawn at random.
        seed: of the draw.
    """

    path: str = MISSING
    target: str = MISSING
    held_out: str = MISSING
    episodes: str = ""
    fraction: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if bool(self.episodes) == bool(self.fraction):
            raise ConfigError("A split needs either episodes=0-9,12 or fraction=0.1.")
        if self.fraction and not 0 < self.fraction < 1:
            raise ConfigError(f"fraction={self.fraction} is not possible; give a share between 0 and 1.")


def run(settings: Settings, config: DictConfig) -> int:
    """Splits the store and prints what the new ones hold."""
    from robopolicy_datasets.doctor.edit import split_store
    from robopolicy_datasets.doctor.selection import parse_episodes
    from robopolicy_datasets.windows.splits import split_episodes
    from robopolicy_launch.verbs.data.shared import open_store, tell

    store = open_store(settings.path)
    if settings.episodes:
        chosen = parse_episodes(settings.episodes, len(store))
    else:
        drawn = split_episodes(len(store), validation_fraction=settings.fraction, seed=settings.seed)
        chosen = drawn[1].tolist()
    targets = [Path(text).expanduser() for text in (settings.target, settings.held_out)]
    with console.Progress(f"Splitting {store.path.name}") as progress:
        made = split_store(store, targets[0], targets[1], chosen, progress)
    for number, new in enumerate(made):
        if number:
            console.line()
        tell(new)
    return 0
