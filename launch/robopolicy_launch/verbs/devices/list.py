"""Shows which robots, cameras, sensors, teleoperators and embodiments there are, and which can be used.

A device whose extra is not installed is listed with the line that installs it. The keys of a robot with their
meanings: robopolicy devices check robot=NAME --help
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from robopolicy_datasets import registry
from robopolicy_launch import console

GROUPS: dict[str, str | None] = {}
POSITIONAL = ()

READY = "ready"


@dataclass
class Settings:
    """Settings of ``robopolicy devices list``.

    Attributes:
        json: a file that the list is written to, with every setting and its default.
    """

    json: str = ""


def run(settings: Settings, config: DictConfig) -> int:
    """Prints the devices."""
    from robopolicy_drivers.embodiments import embodiment_names
    from robopolicy_launch.run_folder import write_text_atomic

    kinds = (registry.robots, registry.cameras, registry.sensors, registry.teleops)
    found = [_describe(kind, name) for kind in kinds for name in kind.names()]
    console.table(
        [
            (device["kind"], device["name"], device["status"], ", ".join(device["settings"]))
            for device in found
        ],
        header=("kind", "name", "status", "settings"),
    )
    console.line()
    console.line(f"  embodiments  {', '.join(embodiment_names())}")
    if settings.json:
        content = {"devices": found, "embodiments": embodiment_names()}
        write_text_atomic(Path(settings.json).expanduser(), json.dumps(content, indent=2) + "\n")
    return 0


def _describe(kind: registry.Registry, name: str) -> dict[str, Any]:
    """Returns what is known of a device: kind, name, status and settings with their defaults."""
    try:
        settings = _settings(kind.config_class(name))
        kind.load(name)
    except Exception as error:  # one broken plug-in must not hide the others
        return {"kind": kind.kind, "name": name, "status": str(error), "settings": {}}
    return {"kind": kind.kind, "name": name, "status": READY, "settings": settings}


def _settings(config: type[Any]) -> dict[str, Any]:
    """Returns the defaults of a config's keys as JSON values; None where a value must be given."""
    defaults: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = item.default
        if item.default_factory is not dataclasses.MISSING:
            value = item.default_factory()
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = dataclasses.asdict(value)
        defaults[item.name] = None if value is dataclasses.MISSING else value
    return defaults
