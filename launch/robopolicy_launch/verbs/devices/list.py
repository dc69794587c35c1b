"""Shows which robots, cameras, sensors, teleoperators and embodiments there are, and which can be used.

A device whose extra is not installed is listed with the line that installs it. What a driver was tested
against is a third-party peer (somebody else wrote the other side of the protocol), our own emulator, or
nothing. The keys of a robot with their meanings: robopolicy devices check robot=NAME --help
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from robopolicy_datasets import registry
from robopolicy_datasets.errors import missing_extra
from robopolicy_launch import console

if TYPE_CHECKING:
    from robopolicy_drivers.hosting.facts import DeviceFacts

GROUPS: dict[str, str | None] = {}
POSITIONAL = ()

READY = "ready"
COLUMNS = ("kind", "name", "status", "protocol", "rates", "tested against")


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
    console.table([tuple(device[key] for key in COLUMNS) for device in found], header=COLUMNS)
    console.line()
    console.line(f"  embodiments  {', '.join(embodiment_names())}")
    if settings.json:
        content = {"devices": found, "embodiments": embodiment_names()}
        write_text_atomic(Path(settings.json).expanduser(), json.dumps(content, indent=2) + "\n")
    return 0


def _describe(kind: registry.Registry, name: str) -> dict[str, Any]:
    """Returns what is known of a device: the columns of the table, and settings with their defaults."""
    known: dict[str, Any] = {
        "kind": kind.kind,
        "name": name,
        **dict.fromkeys(COLUMNS[2:], ""),
        "settings": {},
    }
    try:
        config = kind.config_class(name)
        known |= {"settings": _settings(config), **_facts(config)}
        missing = next(
            (module for module in _needs(config) if importlib.util.find_spec(module) is None), None
        )
        if missing is not None:
            raise missing_extra(f"{kind.kind}={name}", registry.EXTRA_OF_MODULE[missing])
        kind.load(name)
    except Exception as error:  # one broken plug-in must not hide the others
        return {**known, "status": str(error)}
    return {**known, "status": READY}


def _facts(config: type[Any]) -> dict[str, str]:
    """Returns what a config class says of its driver; nothing where it says nothing."""
    facts: DeviceFacts | None = getattr(config, "device", None)
    if facts is None:
        return {}
    tested = f"{facts.evidence}: {facts.tested_against}" if facts.tested_against else str(facts.evidence)
    return {"protocol": facts.protocol, "rates": facts.rates, "tested against": tested}


def _needs(config: type[Any]) -> tuple[str, ...]:
    """Returns the modules of extras that a driver imports in its own process."""
    facts: DeviceFacts | None = getattr(config, "device", None)
    return () if facts is None else facts.modules


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
