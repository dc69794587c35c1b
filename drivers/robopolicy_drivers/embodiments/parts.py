"""The parts that an embodiment consists of. Each refuses numbers that no body can have."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.geometry import pose_matrix, quaternion_to_matrix
from robopolicy_drivers.embodiments.checks import (
    constant,
    require_inertia,
    require_order,
    require_positive,
    require_unit,
)

Range = tuple[float, float]
Vector3 = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]


@dataclass(frozen=True)
class Pose:
    """A position and an orientation in the frame of something else.

    Attributes:
        position: (3) [m].
        quaternion: of length 1 (4, wxyz).
    """

    position: Vector3
    quaternion: Quaternion

    def __post_init__(self) -> None:
        require_unit("A pose's quaternion", self.quaternion)

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """The transform ``[4, 4]``."""
        return constant(pose_matrix(np.array(self.position), quaternion_to_matrix(np.array(self.quaternion))))


@dataclass(frozen=True)
class Capsule:
    """A capsule that draws part of a body.

    Attributes:
        start: one end of the axis, in the body's frame (3) [m].
        end: the other end (3) [m].
        radius: [m].
    """

    start: Vector3
    end: Vector3
    radius: float

    def __post_init__(self) -> None:
        require_positive("A capsule", self, "radius")


@dataclass(frozen=True)
class Joint:
    """A revolute joint and the link that it moves. The link's frame sits at the joint.

    Attributes:
        name: of the joint.
        position: of the joint in the frame of the link before it, or of the base (3) [m].
        quaternion: orientation of the joint in the same frame (4, wxyz).
        axis: unit vector that the joint turns about, in its own frame (3).
        position_limits: lowest and highest angle (2) [rad].
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
    position: Vector3
    quaternion: Quaternion
    axis: Vector3
    position_limits: Range
    velocity_limit: float
    acceleration_limit: float
    effort_limit: float
    stiffness: float
    damping: float
    mass: float
    center_of_mass: Vector3
    inertia: Vector3
    capsules: tuple[Capsule, ...]

    def __post_init__(self) -> None:
        who = f"The joint '{self.name}'"
        require_unit(f"{who}: its axis", self.axis)
        require_unit(f"{who}: its quaternion", self.quaternion)
        require_order(f"{who}: its position limits", self.position_limits[:1], self.position_limits[1:])
        limits = ("velocity_limit", "acceleration_limit", "effort_limit", "stiffness", "damping", "mass")
        require_positive(who, self, *limits)
        require_inertia(f"{who}: its link", self.inertia)


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

    def __post_init__(self) -> None:
        require_positive("The gripper", self, "speed", "force", "mass")
        require_order("The gripper's openings", (0.0, self.min_width), (self.min_width, self.max_width))


@dataclass(frozen=True)
class Rotor:
    """A propeller with its motor.

    Attributes:
        position: in the base's frame (3) [m].
        axis: unit vector of the thrust in the base's frame (3).
        radius: [m].
        thrust_limit: largest thrust [N]; the smallest is 0.
        drag: torque about the axis for each newton of thrust; above 0 where the propeller turns clockwise
            as seen against the axis [m].
        time_constant: of the thrust's first-order lag behind its command [s].
    """

    position: Vector3
    axis: Vector3
    radius: float
    thrust_limit: float
    drag: float
    time_constant: float

    def __post_init__(self) -> None:
        require_unit("A rotor's axis", self.axis)
        require_positive("A rotor", self, "radius", "thrust_limit", "time_constant")


@dataclass(frozen=True)
class FlyingBase:
    """A multirotor, alone or under an arm or a gripper; or what a hand carries.

    Its frame: x forward, z up, at its center of mass.

    Attributes:
        mass: without the arm and the gripper [kg].
        inertia: diagonal about the center of mass, along the base's axes (3) [kg m^2].
        geofence_lower: lowest corner of the box that the base stays in, in the world (3) [m].
        geofence_upper: its highest corner (3) [m].
        velocity_limit: [m/s].
        acceleration_limit: [m/s^2].
        angular_velocity_limit: [rad/s].
        angular_acceleration_limit: [rad/s^2].
        tilt_limit: largest angle between the base's z axis and the vertical [rad].
        rotors: the propellers; none where a hand carries the base wherever it is told to be.
        capsules: that draw the base.
    """

    mass: float
    inertia: Vector3
    geofence_lower: Vector3
    geofence_upper: Vector3
    velocity_limit: float
    acceleration_limit: float
    angular_velocity_limit: float
    angular_acceleration_limit: float
    tilt_limit: float
    rotors: tuple[Rotor, ...]
    capsules: tuple[Capsule, ...] = ()

    def __post_init__(self) -> None:
        limits = ("velocity", "acceleration", "angular_velocity", "angular_acceleration", "tilt")
        require_positive("The flying base", self, "mass", *(f"{name}_limit" for name in limits))
        require_inertia("The flying base", self.inertia)
        require_order("The geofence", self.geofence_lower, self.geofence_upper)

    @cached_property
    def wrench_matrix(self) -> NDArray[np.float64]:
        """Force and torque ``[6, R]`` on the base for one newton of each rotor, along its axes [-, m]."""
        axes = np.reshape([rotor.axis for rotor in self.rotors], (-1, 3))
        arms = np.reshape([rotor.position for rotor in self.rotors], (-1, 3))
        drags = np.reshape([rotor.drag for rotor in self.rotors], (-1, 1))
        return constant(np.hstack([axes, np.cross(arms, axes) + drags * axes]).T)

    @cached_property
    def thrust_limits(self) -> NDArray[np.float64]:
        """Largest thrust of each rotor ``[R]`` [N]."""
        return constant([rotor.thrust_limit for rotor in self.rotors])


@dataclass(frozen=True)
class CameraMount:
    """A camera that is fixed to the robot.

    Attributes:
        key: of its images, e.g. ``"camera1_rgb"``.
        frame: what it is fixed to.
        pose: of the camera in that frame: x to the right of the image, y down, z where it looks.
        image_size: height and width (2) [px].
        vertical_field: angle of view from the top to the bottom of the image [rad].
    """

    key: str
    frame: Literal["base", "tcp"]
    pose: Pose
    image_size: tuple[int, int]
    vertical_field: float

    def __post_init__(self) -> None:
        who = f"The camera '{self.key}'"
        require_positive(who, self, "vertical_field")
        require_order(f"{who}: its image size", (1, 1), self.image_size)


@dataclass(frozen=True)
class ForceTorqueSensor:
    """A sensor of the force and torque between the arm and its tool.

    Attributes:
        key: of its readings, e.g. ``"robot0_wrench"``.
        pose: of the sensor in the last link's frame.
        force_range: largest force that it measures [N].
        torque_range: largest torque that it measures [N m].
        rate_hz: readings per second.
    """

    key: str
    pose: Pose
    force_range: float
    torque_range: float
    rate_hz: float

    def __post_init__(self) -> None:
        require_positive(f"The sensor '{self.key}'", self, "force_range", "torque_range", "rate_hz")


@dataclass(frozen=True)
class TouchPad:
    """A tactile sensor with a grid of markers on the inside of a finger.

    Attributes:
        key: of its readings, e.g. ``"robot0_tactile0_markers"``.
        finger: that carries it; the left one is at positive y of the tool.
        size: along the tool's x and z axes (2) [m].
        markers: rows, which follow each other along the tool's x axis, and columns, along its z axis (2).
        rate_hz: readings per second.
    """

    key: str
    finger: Literal["left", "right"]
    size: tuple[float, float]
    markers: tuple[int, int]
    rate_hz: float

    def __post_init__(self) -> None:
        who = f"The touch pad '{self.key}'"
        require_positive(who, self, "rate_hz")
        require_order(f"{who}: its size", (0.0, 0.0), self.size)
        require_order(f"{who}: its markers", (1, 1), self.markers)


@dataclass(frozen=True)
class Latencies:
    """Delays that 95 % of all are below, to begin with: each lab's own are different.

    Attributes:
        state: from a state to its arrival [s].
        command: from a command to the motion [s].
        gripper: from a command to the gripper's motion [s].
        camera: from an exposure to its image's arrival [s].
    """

    state: float
    command: float
    gripper: float
    camera: float

    def __post_init__(self) -> None:
        given = (self.state, self.command, self.gripper, self.camera)
        require_order("The latencies", (0.0,) * len(given), given)
