"""What a task puts around its robots: objects, cameras, random beginnings, and how success is seen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.geometry import Array, pose_matrix
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.embodiments import Embodiment, Pose
from robopolicy_sim.worlds.body import Body
from robopolicy_sim.worlds.mjcf import Element

WRIST_CAMERA = "camera1_rgb"
UPRIGHT = (1.0, 0.0, 0.0, 0.0)

# Orientations of a tool: z out of it, the fingers opening along y.
TOOL_DOWN = np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]])
TOOL_FORWARD = np.array([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])


@dataclass(frozen=True)
class View:
    """A camera that stands in the world.

    Attributes:
        position: (3) [m].
        looks_at: the point in the middle of its image (3) [m].
        vertical_field: angle of view from the top to the bottom of the image [deg].
    """

    position: tuple[float, float, float]
    looks_at: tuple[float, float, float]
    vertical_field: float


class Scene(ABC):
    """A task's surroundings. One object serves one world.

    What varies from episode to episode must be in the physics state (positions, mocap poses, forces) and not
    in the model: then worlds share one model and one renderer, and another process can mirror them.

    Attributes:
        name: of the task, as users give it.
        task_text: what a person would be told to do.
        num_robots: how many robots it takes.
        center: the middle of where tools work, on the table or in the air (3) [m].
        extent: how far from there they must reach along each axis (3) [m].
        tool: orientation of the tools when an episode begins ``[3, 3]``.
        start: where the tools are then, beside each robot's ``reach_center`` (3) [m].
        views: the cameras of the scene by name; ``"video"`` is drawn smoothly, for people.
        scales: whether ``scale`` follows the robot's size; not where things are too large to move together.
        scale: of the areas in which objects begin; below 1 where an arm is small.
    """

    name: ClassVar[str]
    task_text: ClassVar[str]
    num_robots: ClassVar[int] = 1
    center: ClassVar[tuple[float, float, float]]
    extent: ClassVar[tuple[float, float, float]]
    tool: ClassVar[Array] = TOOL_DOWN
    start: ClassVar[tuple[float, float, float]] = (0.0, 0.0, 0.24)
    views: ClassVar[Mapping[str, View]]
    scales: ClassVar[bool] = True

    scale: float = 1.0

    @property
    def model_key(self) -> Hashable:
        """Scenes of one class with equal keys build the same model."""
        return None

    @abstractmethod
    def build(self, root: Element) -> None:
        """Adds everything but robots and cameras to an MJCF document."""

    @abstractmethod
    def bind(self, model: Any, data: Any, robots: Sequence[Body]) -> None:
        """Looks up what it needs.

        Args:
            model: the ``mujoco.MjModel`` that was built.
            data: its ``mujoco.MjData``.
            robots: in the order in which they stand.
        """

    @abstractmethod
    def reset(self, random: np.random.Generator) -> None:
        """Places the objects for an episode; robots stand at their start already."""

    def advance(self, seconds: float) -> None:  # noqa: B027 (most scenes do nothing by themselves)
        """Is called before the physics advances by ``seconds``: moves what moves by itself."""

    @abstractmethod
    def success(self) -> bool:
        """Returns whether the task is done."""

    @abstractmethod
    def progress(self) -> float:
        """Returns how far the task is, from 0 to 1 at success, without jumps."""

    def base_pose(self, embodiment: Embodiment, number: int) -> Pose:
        """Returns where robot ``number`` stands, if it stands: its tool's home is above its middle."""
        if embodiment.base:
            return Pose((0.0, 0.0, 0.0), UPRIGHT)
        home = Kinematics(embodiment).forward(embodiment.home_positions)[:3, 3]
        x, y = (
            round(center - at, 3) for center, at in zip(self.reach_center(number), home[:2], strict=False)
        )
        return Pose((x, y, 0.0), UPRIGHT)

    def start_pose(self, number: int) -> Array:
        """Returns the pose ``[4, 4]`` in the world of robot ``number``'s tool when an episode begins."""
        return pose_matrix(np.add(self.reach_center(number), self.start), self.tool)

    def reach_center(self, number: int) -> tuple[float, float, float]:
        """Returns the middle (3) [m] of where robot ``number``'s tool must reach, ``extent`` to all sides."""
        return self.center

    def check(self, embodiment: Embodiment) -> None:
        """Refuses robots that cannot do the task, whatever their reach.

        Raises:
            ConfigError: with the reason.
        """
        if embodiment.gripper is None:
            raise ConfigError(
                f"The embodiment '{embodiment.name}' has no gripper, and {self.name} needs one."
            )
        cameras = [camera.key for camera in embodiment.cameras]
        if WRIST_CAMERA not in cameras:
            raise ConfigError(
                f"The embodiment '{embodiment.name}' has no camera '{WRIST_CAMERA}' (it has: "
                f"{', '.join(cameras) or 'none'}), and {self.name} is seen by one at the tool."
            )
