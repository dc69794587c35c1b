"""A robot from the names and settings of its parts, as the command and its files give them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from robopolicy_datasets import registry
from robopolicy_datasets.errors import ConfigError, unknown_name
from robopolicy_drivers.composition import CompositeRobot
from robopolicy_drivers.configs import CompositeConfig
from robopolicy_drivers.interfaces import BringsCameras, Camera

DRIVER = "driver"  # the key that names a part's driver
_KINDS = (registry.robots, registry.cameras, registry.sensors)


def make_composite(config: CompositeConfig) -> CompositeRobot:
    """Builds the robot; connect it, then its ``cameras``. Errors as of ``build_parts``.

    Raises:
        SpecError: the parts do not go together.
    """
    devices, cameras = build_parts(config)
    brought = [camera for part in devices if isinstance(part, BringsCameras) for camera in part.cameras]
    return CompositeRobot(devices, [*brought, *cameras])


def build_parts(config: CompositeConfig) -> tuple[list[Any], list[Camera]]:
    """Returns the disconnected robots and sensors of a composite in their order, and its cameras.

    Raises:
        UnknownNameError: there is no such driver, or a driver has no such setting.
        ConfigError: there are no parts, one names no driver, or a setting has a wrong type.
    """
    parts = {name: dict(settings) for name, settings in _from_file(config.file).items()}
    for name, settings in config.parts.items():
        parts[name] = {**parts.get(name, {}), **settings}
    if not parts:
        raise ConfigError(
            "The robot has no parts; give e.g. robot.parts.arm.driver=franka and its settings, or "
            f"robot.file=FILE. Drivers: {', '.join(_drivers())}."
        )
    devices: list[Any] = []
    cameras: list[Camera] = []
    for name, settings in parts.items():
        kind, device = _build(name, settings)
        (cameras if kind is registry.cameras else devices).append(device)
    return devices, cameras


def _drivers() -> dict[str, registry.Registry]:
    """Returns the kind of every driver that can be a part, by its name."""
    found = {name: kind for kind in _KINDS for name in kind.names()}
    return {name: kind for name, kind in found.items() if not _is_composed(kind, name)}


def _is_composed(kind: registry.Registry, name: str) -> bool:
    """Whether a driver is itself put together, or broken: then it is no part."""
    try:
        return issubclass(kind.config_class(name), CompositeConfig)
    except (ImportError, AttributeError):
        return True


def _build(part: str, settings: Mapping[str, Any]) -> tuple[registry.Registry, Any]:
    """Returns the kind of a part, and the disconnected device."""
    drivers, given = _drivers(), dict(settings)
    driver = given.pop(DRIVER, None)
    if driver is None:
        raise ConfigError(
            f"The part '{part}' names no driver; give robot.parts.{part}.driver=... "
            f"One of: {', '.join(drivers)}."
        )
    if driver not in drivers:
        raise unknown_name(f"driver (of the part '{part}')", str(driver), drivers)
    kind = drivers[driver]
    return kind, kind.build(driver, part_config(part, kind.config_class(driver), given))


def part_config(part: str, config_class: type[Any], given: Mapping[str, Any]) -> Any:
    """Returns a driver's config with the given settings.

    Args:
        part: name of the part, for messages.
        config_class: of the driver.
        given: plain settings, which may be nested.

    Raises:
        UnknownNameError: the driver has no such setting.
        ConfigError: a setting has a wrong type.
    """
    node = OmegaConf.structured(config_class)
    unknown = [key for key in given if key not in node]
    if unknown:
        raise unknown_name(f"setting of the part '{part}'", unknown[0], map(str, node))
    try:
        return OmegaConf.to_object(OmegaConf.merge(node, dict(given)))
    except OmegaConfBaseException as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(f"The part '{part}' cannot have these settings: {reason}.") from error


def _from_file(file: str) -> Mapping[str, Mapping[str, Any]]:
    """Returns the parts that a file names; without one, none."""
    if not file:
        return {}
    path = Path(file).expanduser()
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"robot.file={file} cannot be read: {error}.") from error
    if not isinstance(content, dict) or not all(isinstance(part, dict) for part in content.values()):
        raise ConfigError(
            f"robot.file={file} names no parts; it is a mapping like 'arm: {{driver: franka, host: ...}}'."
        )
    return {str(name): part for name, part in content.items()}
