"""Registries of components, filled from Python entry points and loaded lazily.

An entry point names a *config*: a dataclass in a module that imports neither torch nor mujoco.
The config's class attribute ``target`` (``"module:attribute"``) names what it configures, which is
imported only when it is used. Ours and third-party components are registered in the same way::

    [project.entry-points."robopolicy.policies"]
    my_policy = "my_package.configs:MyPolicyConfig"
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from robopolicy_datasets.errors import ConfigError, missing_extra, unknown_name

EXTRA_OF_MODULE: Mapping[str, str] = {
    "torch": "learn",
    "safetensors": "learn",
    "matplotlib": "learn",
    "tensorboard": "learn",
    "mujoco": "sim",
    "gymnasium": "sim",
    "gym_pusht": "pusht",
    "av": "formats",
    "h5py": "formats",
    "imagecodecs": "formats",
    "pyarrow": "formats",
    "pybullet": "pybullet",
    "pygame": "keyboard",
    "pyrealsense2": "realsense",
    "pymavlink": "mavlink",
    "mavsdk": "autopilot",
    "rerun": "viz",
    "franky": "franka",
    "rtde_control": "ur",
    "rtde_receive": "ur",
    "dashboard_client": "ur",
    "pymodbus": "modbus",
    "serial": "serial",
    "scservo_sdk": "feetech",
}


def load_target(target: str) -> Any:
    """Imports ``"module:attribute"``.

    Raises:
        MissingExtraError: the module needs an optional dependency that is not installed.
    """
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        root = (error.name or "").partition(".")[0]
        if root in EXTRA_OF_MODULE:
            raise missing_extra(module_name, EXTRA_OF_MODULE[root]) from error
        raise
    return getattr(module, attribute)


class Registry:
    """Components of one kind, found through one entry-point group.

    Args:
        kind: the word used in messages, e.g. ``"policy"``; also the name of the Hydra group.
        group: the entry-point group, e.g. ``"robopolicy.policies"``.
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self.group = group

    @cached_property
    def _entry_points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}

    def names(self) -> list[str]:
        """Returns the registered names, sorted."""
        return sorted(self._entry_points)

    def config_class(self, name: str) -> type[Any]:
        """Returns the config dataclass registered under ``name``.

        Raises:
            UnknownNameError: no such name.
        """
        if name not in self._entry_points:
            raise unknown_name(self.kind, name, self._entry_points)
        point = self._entry_points[name]
        return load_target(point.value)

    def load(self, name: str) -> Any:
        """Imports and returns the component (class or function) that ``name``'s config configures."""
        return load_target(self._target(name))

    def build(self, name: str, config: Any, *arguments: Any, **keywords: Any) -> Any:
        """Calls the component with its config first: ``component(config, *arguments, **keywords)``."""
        return self.load(name)(config, *arguments, **keywords)

    def _target(self, name: str) -> str:
        target = getattr(self.config_class(name), "target", None)
        if not isinstance(target, str):
            raise ConfigError(
                f"The {self.kind} '{name}' ({self._entry_points[name].value}) has no class attribute "
                "'target'; set it to the 'module:attribute' that the config configures."
            )
        return target


class FormatRegistry(Registry):
    """The formats of demonstrations.

    A format's config names its import as ``target``, called with (config, source, target, progress, codecs),
    and, where it can be written too, its export as ``export_target``, called with (config, source, target,
    progress).
    """

    def load_exporter(self, name: str) -> Any:
        """Imports and returns the function that writes a store in the format ``name``.

        Raises:
            UnknownNameError: no such format.
            ConfigError: it is for importing only.
        """
        target = getattr(self.config_class(name), "export_target", None)
        if target is None:
            able = [other for other in self.names() if hasattr(self.config_class(other), "export_target")]
            raise ConfigError(f"The format '{name}' is for importing only. Exported are: {', '.join(able)}.")
        return load_target(target)


policies = Registry("policy", "robopolicy.policies")
tasks = Registry("task", "robopolicy.tasks")
robots = Registry("robot", "robopolicy.robots")
cameras = Registry("camera", "robopolicy.cameras")
sensors = Registry("sensor", "robopolicy.sensors")
teleops = Registry("teleop", "robopolicy.teleop")
formats = FormatRegistry("format", "robopolicy.formats")
