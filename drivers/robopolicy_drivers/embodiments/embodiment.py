"""What a robot's body is: a base that stands or flies, a chain of joints, a tool, sensors; and its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError, unknown_name
from robopolicy_drivers.embodiments.checks import constant
from robopolicy_drivers.embodiments.parts import (
    CameraMount,
    FlyingBase,
    ForceTorqueSensor,
    Gripper,
    Joint,
    Latencies,
    Pose,
    TouchPad,
)
from robopolicy_drivers.embodiments.reading import read_record

_SUFFIX = ".json"
_OURS = "robopolicy_drivers.embodiments"
_GROUP = "robopolicy.embodiments"  # entry points: the name of an embodiment = the package that holds its file


@dataclass(frozen=True)
class Embodiment:
    """A robot's body. The last link is the base where there are no joints.

    Attributes:
        name: under which ``load_embodiment`` finds it.
        description: one line for people.
        sources: where the numbers come from, and which were chosen without a source.
        joints: the chain of J joints, from base to tool.
        flange: pose of the tool flange in the last link's frame.
        tcp: pose of the tool center point (between the finger tips; z points out of the tool) in the last
            link's frame.
        home: joint positions of a ready posture (J) [rad].
        gripper: None where the arm has none.
        base: None where the base is fixed.
        cameras: that are fixed to the robot.
        force_torque: the sensor at the tool, where there is one.
        touch: pads on the fingers.
        latencies: None where nobody has measured them.
    """

    name: str
    description: str
    sources: tuple[str, ...]
    joints: tuple[Joint, ...]
    flange: Pose
    tcp: Pose
    home: tuple[float, ...]
    gripper: Gripper | None = None
    base: FlyingBase | None = None
    cameras: tuple[CameraMount, ...] = ()
    force_torque: ForceTorqueSensor | None = None
    touch: tuple[TouchPad, ...] = ()
    latencies: Latencies | None = None

    def __post_init__(self) -> None:
        if len(self.home) != len(self.joints):
            raise ConfigError(
                f"There are {len(self.joints)} joints but {len(self.home)} home positions; give one for each."
            )
        for joint, angle in zip(self.joints, self.home, strict=True):
            low, high = joint.position_limits
            if not low <= angle <= high:
                raise ConfigError(
                    f"The home position {angle:g} rad of joint '{joint.name}' is not within its limits "
                    f"[{low:g}, {high:g}]."
                )
        if not (self.joints or self.base):
            raise ConfigError("There are neither joints nor a flying base; a robot has at least one of them.")

    @property
    def base_type(self) -> Literal["fixed", "flying"]:
        """What the chain begins at."""
        return "flying" if self.base else "fixed"

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names of the joints, from base to tool."""
        return tuple(joint.name for joint in self.joints)

    @property
    def mass(self) -> float:
        """All that moves: flying base, links and gripper [kg]."""
        links = sum(joint.mass for joint in self.joints)
        return links + sum(part.mass for part in (self.base, self.gripper) if part)

    @property
    def parallel_gripper(self) -> Gripper:
        """The gripper.

        Raises:
            ConfigError: this embodiment has none.
        """
        if self.gripper is None:
            raise ConfigError(
                f"The embodiment '{self.name}' has no gripper, and one is needed here; give its file one."
            )
        return self.gripper

    @property
    def flying_base(self) -> FlyingBase:
        """The base.

        Raises:
            ConfigError: it is fixed.
        """
        if self.base is None:
            raise ConfigError(
                f"The embodiment '{self.name}' stands on a fixed base, and one that flies is needed here."
            )
        return self.base

    @cached_property
    def home_positions(self) -> NDArray[np.float64]:
        """Joint positions of the ready posture ``[J]`` [rad]."""
        return constant(self.home)

    @cached_property
    def position_limits(self) -> NDArray[np.float64]:
        """Lowest and highest joint positions ``[J, 2]`` [rad]."""
        return constant(np.reshape([joint.position_limits for joint in self.joints], (-1, 2)))

    @cached_property
    def velocity_limits(self) -> NDArray[np.float64]:
        """Joint speed limits ``[J]`` [rad/s]."""
        return constant([joint.velocity_limit for joint in self.joints])

    @cached_property
    def acceleration_limits(self) -> NDArray[np.float64]:
        """Joint acceleration limits ``[J]`` [rad/s^2]."""
        return constant([joint.acceleration_limit for joint in self.joints])

    @cached_property
    def effort_limits(self) -> NDArray[np.float64]:
        """Joint torque limits ``[J]`` [N m]."""
        return constant([joint.effort_limit for joint in self.joints])

    @cached_property
    def joint_transforms(self) -> NDArray[np.float64]:
        """Pose ``[J, 4, 4]`` of each joint at angle zero in the frame of the link before it."""
        poses = [Pose(joint.position, joint.quaternion).matrix for joint in self.joints]
        return constant(np.reshape(poses, (-1, 4, 4)))

    @cached_property
    def joint_axes(self) -> NDArray[np.float64]:
        """Unit axis ``[J, 3]`` of each joint in its own frame."""
        return constant(np.reshape([joint.axis for joint in self.joints], (-1, 3)))

    @property
    def tcp_transform(self) -> NDArray[np.float64]:
        """Pose ``[4, 4]`` of the tool center point in the last link's frame."""
        return self.tcp.matrix


def embodiment_names() -> list[str]:
    """Returns the names of ours and of those that other packages register, sorted."""
    return sorted(_packages())


@cache
def load_embodiment(name: str) -> Embodiment:
    """Reads an embodiment's data file.

    Args:
        name: one of ``embodiment_names``, or the path of a file that ends in ``.json``.

    Raises:
        UnknownNameError: there is no such embodiment.
        ConfigError: the file is missing or does not describe one.
    """
    packages = _packages()
    if name.endswith(_SUFFIX):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"There is no embodiment file {path.absolute()}; check the path.")
        text = path.read_text(encoding="utf-8")
    elif name in packages:
        try:
            text = files(packages[name]).joinpath(name + _SUFFIX).read_text(encoding="utf-8")
        except (ModuleNotFoundError, FileNotFoundError) as error:
            raise ConfigError(
                f"The embodiment '{name}' is registered to lie in the package '{packages[name]}', where "
                f"{name}{_SUFFIX} is not found ({error}). Mend that package's entry point, or its files."
            ) from error
    else:
        raise unknown_name("embodiment", name, packages)
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"The embodiment file '{name}' is not JSON: {error}.") from error
    return embodiment_from_json(data)


def _packages() -> dict[str, str]:
    """Returns in which package the file of each embodiment lies, by its name; nobody replaces ours."""
    names = (entry.name for entry in files(_OURS).iterdir())
    ours = {name.removesuffix(_SUFFIX): _OURS for name in names if name.endswith(_SUFFIX)}
    return {point.name: point.value for point in entry_points(group=_GROUP)} | ours


def embodiment_from_json(data: Mapping[str, Any]) -> Embodiment:
    """Builds an embodiment from the plain data of a JSON file.

    Raises:
        ConfigError: a field is missing, unknown, of the wrong size, or no body can have it.
    """
    return read_record(Embodiment, data, "embodiment")
