"""What an arm is: a serial chain of revolute joints, its limits, and a parallel gripper."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError, unknown_name
from robopolicy_datasets.geometry import Array, pose_matrix, quaternion_to_matrix

Vector = tuple[float, ...]


@dataclass(frozen=True)
class Capsule:
    """A capsule that draws part of a link.

    Attributes:
        start: one end of the axis, in the link's frame (3) [m].
        end: the other end (3) [m].
        radius: [m].
    """

    start: Vector
    end: Vector
    radius: float


@dataclass(frozen=True)
class Joint:
    """A revolute joint and the link that it moves. The link's frame sits at the joint.

    Attributes:
        name: of the joint.
        position: of the joint in the frame of the link before it (3) [m].
        quaternion: orientation of the joint in the frame of the link before it (wxyz).
        axis: unit vector that the joint turns about, in its own frame (3).
        position_limits: lowest and highest angle [rad].
        velocity_limit: [rad/s].
        acceleration_limit: [rad/s^2].
        effort_limit: [N m].
        stiffness: of the position servo [N m/rad].
        damping: of the position servo [N m s/rad].
        mass: of the link [kg].
        center_of_mass: in the link's frame (3) [m].
        inertia: diagonal about the center of mass, along the link's axes (3) [kg m^2].
        capsules: that draw the link.
    """

    name: str
    position: Vector
    quaternion: Vector
    axis: Vector
    position_limits: Vector
    velocity_limit: float
    acceleration_limit: float
    effort_limit: float
    stiffness: float
    damping: float
    mass: float
    center_of_mass: Vector
    inertia: Vector
    capsules: tuple[Capsule, ...]


@dataclass(frozen=True)
class Gripper:
    """A parallel gripper; its fingers move along the y axis of the tool.

    Attributes:
        min_width: smallest opening [m].
        max_width: largest opening [m].
        speed: fastest change of the opening [m/s].
        force: largest force of each finger [N].
        mass: [kg].
    """

    min_width: float
    max_width: float
    speed: float
    force: float
    mass: float


@dataclass(frozen=True)
class Embodiment:
    """An arm with a gripper.

    Attributes:
        name: under which ``load_embodiment`` finds it.
        description: one line for people.
        joints: the chain, from base to tool.
        flange: pose of the tool flange in the last link's frame: position (3) [m], quaternion (4, wxyz).
        tcp: pose of the tool center point (between the finger tips; z points out of the tool) in the
            last link's frame: position (3) [m], quaternion (4, wxyz).
        home: joint positions of a ready posture (J) [rad].
        gripper: the gripper.
    """

    name: str
    description: str
    joints: tuple[Joint, ...]
    flange: tuple[Vector, Vector]
    tcp: tuple[Vector, Vector]
    home: Vector
    gripper: Gripper

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names of the joints, from base to tool."""
        return tuple(joint.name for joint in self.joints)

    @cached_property
    def home_positions(self) -> NDArray[np.float64]:
        """Joint positions of the ready posture ``[J]`` [rad]."""
        return _constant(self.home)

    @cached_property
    def position_limits(self) -> NDArray[np.float64]:
        """Lowest and highest joint positions ``[J, 2]`` [rad]."""
        return _constant([joint.position_limits for joint in self.joints])

    @cached_property
    def velocity_limits(self) -> NDArray[np.float64]:
        """Joint speed limits ``[J]`` [rad/s]."""
        return _constant([joint.velocity_limit for joint in self.joints])

    @cached_property
    def acceleration_limits(self) -> NDArray[np.float64]:
        """Joint acceleration limits ``[J]`` [rad/s^2]."""
        return _constant([joint.acceleration_limit for joint in self.joints])

    @cached_property
    def effort_limits(self) -> NDArray[np.float64]:
        """Joint torque limits ``[J]`` [N m]."""
        return _constant([joint.effort_limit for joint in self.joints])

    @cached_property
    def joint_transforms(self) -> NDArray[np.float64]:
        """Pose ``[J, 4, 4]`` of each joint at angle zero in the frame of the link before it."""
        return _constant([_transform((joint.position, joint.quaternion)) for joint in self.joints])

    @cached_property
    def joint_axes(self) -> NDArray[np.float64]:
        """Unit axis ``[J, 3]`` of each joint in its own frame."""
        return _constant([joint.axis for joint in self.joints])

    @cached_property
    def tcp_transform(self) -> NDArray[np.float64]:
        """Pose ``[4, 4]`` of the tool center point in the last link's frame."""
        return _constant(_transform(self.tcp))


def _constant(values: Any) -> NDArray[np.float64]:
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array


def _transform(pose: tuple[Vector, Vector]) -> Array:
    position, quaternion = pose
    return pose_matrix(np.array(position), quaternion_to_matrix(np.array(quaternion)))


def embodiment_names() -> list[str]:
    """Returns the names that ``load_embodiment`` knows, sorted."""
    entries = files("robopolicy_drivers.embodiments").iterdir()
    return sorted(entry.name.removesuffix(".json") for entry in entries if entry.name.endswith(".json"))


@cache
def load_embodiment(name: str) -> Embodiment:
    """Reads an embodiment's data file.

    Raises:
        UnknownNameError: there is no such embodiment.
        ConfigError: the file does not describe one.
    """
    if name not in embodiment_names():
        raise unknown_name("embodiment", name, embodiment_names())
    text = files("robopolicy_drivers.embodiments").joinpath(f"{name}.json").read_text(encoding="utf-8")
    return embodiment_from_json(json.loads(text))


def embodiment_from_json(data: Mapping[str, Any]) -> Embodiment:
    """Builds an embodiment from the plain data of a JSON file.

    Raises:
        ConfigError: a field is missing, unknown, or of the wrong size.
    """
    try:
        embodiment = Embodiment(
            name=data["name"],
            description=data["description"],
            joints=tuple(_joint(row) for row in data["joints"]),
            flange=_pose(data["flange"]),
            tcp=_pose(data["tcp"]),
            home=tuple(data["home"]),
            gripper=Gripper(**data["gripper"]),
        )
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"This is not an embodiment: {error!r}. Compare with the fields of "
            "robopolicy_drivers.embodiments.Embodiment, Joint and Gripper."
        ) from error
    _check(embodiment)
    return embodiment


def _joint(row: Mapping[str, Any]) -> Joint:
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in row.items()
    }
    values["capsules"] = tuple(
        Capsule(tuple(capsule["start"]), tuple(capsule["end"]), capsule["radius"])
        for capsule in row["capsules"]
    )
    return Joint(**values)


def _pose(row: Mapping[str, Any]) -> tuple[Vector, Vector]:
    return tuple(row["position"]), tuple(row["quaternion"])


def _check(embodiment: Embodiment) -> None:
    """Refuses data that would be silently misread."""
    if len(embodiment.home) != len(embodiment.joints):
        raise ConfigError(
            f"Embodiment '{embodiment.name}' has {len(embodiment.joints)} joints but {len(embodiment.home)} "
            "home positions; give one for each joint."
        )
    for joint in embodiment.joints:
        sizes = {
            "position": 3,
            "quaternion": 4,
            "axis": 3,
            "position_limits": 2,
            "center_of_mass": 3,
            "inertia": 3,
        }
        for field, size in sizes.items():
            given = getattr(joint, field)
            if len(given) != size:
                raise ConfigError(
                    f"Joint '{joint.name}' of embodiment '{embodiment.name}' gives {len(given)} numbers for "
                    f"'{field}'; {size} are needed."
                )
        if not np.isclose(np.linalg.norm(joint.axis), 1.0):
            raise ConfigError(
                f"The axis {joint.axis} of joint '{joint.name}' has not length 1; normalise it."
            )
