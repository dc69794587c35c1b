"""Scenes in which a sprung tool is pressed along a surface: what peeling and wiping share.

Forces and what has been done are read from the physics state alone, so that a state that is set again, or
mirrored in another process, says the same. The force is that of the tool's spring (contact forces exist only
after a step); what has been done is kept in the poses of marks, mocap bodies that lie on the surface or are
sunk below it. They collide with nothing and add no degrees of freedom.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from scipy.spatial.transform import Rotation

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.geometry import (
    Array,
    invert_pose,
    matrix_to_quaternion,
    pose_matrix,
)
from robopolicy_sim.rendering import import_mujoco
from robopolicy_sim.tasks.configs import SurfaceConfig
from robopolicy_sim.worlds.body import Body
from robopolicy_sim.worlds.mjcf import Element, add, add_geom, section
from robopolicy_sim.worlds.scene import Scene
from robopolicy_sim.worlds.scenery import GRASPED, add_table

HANDLE_HALF_SIZE = (0.009, 0.009, 0.032)  # [m]
HANDLE_MASS = 0.08  # [kg]
SOLE_MASS = 0.03  # [kg]
SOLE_THICKNESS = 0.012  # [m]
SPRING = 300.0  # [N/m] of the tool's spring
SPRING_DAMPING = 3.0  # [N s/m]
SPRING_TRAVEL = 0.035  # [m]
SOLE_BELOW = HANDLE_HALF_SIZE[2] + SPRING_TRAVEL + SOLE_THICKNESS  # [m] of the handle's middle, when relaxed
TOUCHING = 0.004  # [m] between the sole and a mark that it works on, at most
SUNK = 0.02  # [m] below the surface that marks are hidden
SHIFT_AFTER = 0.2  # share done at which the surface begins to move
SHIFT_UP = 0.6  # share of the shift that is up or down
TOOL_YAW = 0.3  # [rad] largest turn of the standing tool to either side
SURFACE_YAW = 0.3  # [rad]
AREA = (0.06, 0.04)  # [m] x and y extent of the places of the tool, and of the surface

PAD_CONTACT = {"priority": 2, "friction": (0.3, 0.005, 0.0001), "solref": (0.01, 1)}


class SurfaceScene(Scene):
    """A table with a tool that stands on it, and a surface to press it along, from one end to the other.

    The surface's frame has x along the stroke. Frames on it have z out of it.

    Attributes:
        sole: half extents of the tool's sole along and across the stroke (2) [m].
        works: half extents of the part of the sole that does the work (2) [m].
        wanted_force: to press with [N].
        force_band: lowest and highest force that do the work [N].
        needed: share of the marks for success.
        appears: whether work makes the marks appear; else it makes them vanish.
        mark_places: along and across the stroke ``[N, 2]`` [m].
        tool_place: middle of the places where the tool stands (2) [m].
        surface_place: middle of the places of the surface's origin (3) [m].
    """

    sole: ClassVar[tuple[float, float]]
    works: ClassVar[tuple[float, float]]
    wanted_force: ClassVar[float]
    force_band: ClassVar[tuple[float, float]]
    needed: ClassVar[float]
    appears: ClassVar[bool]
    mark_places: ClassVar[Array]
    tool_place: ClassVar[tuple[float, float]]
    surface_place: ClassVar[tuple[float, float, float]]
    scales = False

    def __init__(self, config: SurfaceConfig) -> None:
        for name in ("tilt", "shift"):
            value = getattr(config, name)
            if not 0.0 <= value <= (0.3 if name == "tilt" else 0.03):
                raise ConfigError(
                    f"task.surface.{name} is {value}; give at most 0.3 rad of tilt, 0.03 m of shift."
                )
        if not config.shift_seconds > 0:
            raise ConfigError(f"task.surface.shift_seconds is {config.shift_seconds}; give more than 0.")
        self._config = config
        self._frames = np.stack([self.frame_at(*place) for place in self.mark_places])

    @abstractmethod
    def frame_at(self, along: float, across: float) -> Array:
        """Returns the frame ``[4, 4]`` on the surface at a place [m], in the surface's frame."""

    @abstractmethod
    def build_surface(self, surface: Element) -> None:
        """Adds the geoms of the surface to its body."""

    @abstractmethod
    def build_mark(self, mark: Element) -> None:
        """Adds the geoms of one mark, which lies on the surface at its frame's origin, to its body."""

    def build(self, root: Element) -> None:
        """Adds the table, the tool, the surface and the marks."""
        add_table(root)
        world = section(root, "worldbody")
        self._build_tool(world)
        surface = add(world, "body", name="surface", mocap="true", pos=self.surface_place)
        self.build_surface(surface)
        add(world, "body", name="surface_goal", mocap="true", pos=self.surface_place)
        for number in range(len(self.mark_places)):
            self.build_mark(add(world, "body", name=f"mark{number}", mocap="true", pos=self.surface_place))

    def _build_tool(self, world: Element) -> None:
        tool = add(world, "body", name="tool", pos=(*self.tool_place, SOLE_BELOW))
        add(tool, "freejoint", name="tool")
        add_geom(
            tool,
            "box",
            solid=True,
            size=HANDLE_HALF_SIZE,
            mass=HANDLE_MASS,
            material="accent",
            **GRASPED,
        )
        # Weightless, so that the spring presses with the force of the contact.
        sole = add(tool, "body", name="sole", pos=(0, 0, -SOLE_BELOW), gravcomp=1)
        add(
            sole,
            "joint",
            name="spring",
            type="slide",
            axis=(0, 0, 1),
            range=(0, SPRING_TRAVEL),
            stiffness=SPRING,
            damping=SPRING_DAMPING,
        )
        half = 0.5 * SOLE_THICKNESS
        size = (*self.sole, half)
        add_geom(
            sole,
            "box",
            solid=True,
            pos=(0, 0, half),
            size=size,
            mass=SOLE_MASS,
            material="finger",
            **PAD_CONTACT,
        )
        # The rod that slides into the handle.
        add_geom(
            sole,
            "cylinder",
            fromto=(0, 0, SOLE_THICKNESS, 0, 0, SOLE_THICKNESS + SPRING_TRAVEL + 0.002),
            size=0.006,
            material="arm",
        )

    def bind(self, model: Any, data: Any, robots: Sequence[Body]) -> None:
        """Looks up the tool, the surface and the marks."""
        self._mujoco = import_mujoco()
        self._data, self._robot = data, robots[0]
        self._tool, self._sole = model.body("tool").id, model.body("sole").id
        self._tool_joint = int(model.joint("tool").qposadr[0])
        self._spring = int(model.joint("spring").qposadr[0])
        self._spring_velocity = int(model.joint("spring").dofadr[0])
        self._surface = int(model.body("surface").mocapid[0])
        self._goal = int(model.body("surface_goal").mocapid[0])
        first = int(model.body("mark0").mocapid[0])
        self._marks = slice(first, first + len(self._frames))

    def reset(self, random: np.random.Generator) -> None:
        """Puts tool and surface at random places, the surface tilted, nothing done."""
        half = 0.5 * np.array(AREA)
        tool = np.array(self.tool_place) + random.uniform(-half, half)
        yaw = 0.5 * np.pi + random.uniform(-TOOL_YAW, TOOL_YAW)
        pose = (*tool, SOLE_BELOW, np.cos(0.5 * yaw), 0.0, 0.0, np.sin(0.5 * yaw))
        self._data.qpos[self._tool_joint : self._tool_joint + 7] = pose
        place = np.add(self.surface_place, (*random.uniform(-half, half), 0.0))
        tilt = random.uniform(-self._config.tilt, self._config.tilt, 2)
        turn = Rotation.from_euler("xyz", [*tilt, 0.5 * np.pi + random.uniform(-SURFACE_YAW, SURFACE_YAW)])
        self._data.mocap_pos[self._surface] = place
        self._data.mocap_quat[self._surface] = turn.as_quat(scalar_first=True)
        direction = random.uniform(-np.pi, np.pi)
        side = np.sqrt(1.0 - SHIFT_UP**2)
        up = SHIFT_UP * random.choice((-1.0, 1.0))
        shift = self._config.shift * np.array([side * np.cos(direction), side * np.sin(direction), up])
        self._data.mocap_pos[self._goal] = place + shift
        marks = self.surface_pose[:3, :3] @ self._frames[:, :3, :3]
        self._data.mocap_quat[self._marks] = matrix_to_quaternion(marks)
        self._place_marks(np.zeros(len(self._frames), bool))

    def advance(self, seconds: float) -> None:
        """Marks what the sole has worked on; moves the surface once a part of the work is done."""
        worked_on = self._worked_on()
        if not (self._config.shift or worked_on.any()):
            return
        done = np.logical_or(self.done, worked_on)
        if done.mean() >= SHIFT_AFTER:
            move = self._data.mocap_pos[self._goal] - self._data.mocap_pos[self._surface]
            largest = seconds * self._config.shift / self._config.shift_seconds
            distance = float(np.linalg.norm(move))
            self._data.mocap_pos[self._surface] += move * min(1.0, largest / max(distance, 1e-9))
        self._place_marks(done)

    @property
    def tool_pose(self) -> Array:
        """True pose ``[4, 4]`` of the tool's handle in the world, z from the sole to the handle."""
        return pose_matrix(self._data.xpos[self._tool], self._data.xmat[self._tool].reshape(3, 3))

    @property
    def sole_pose(self) -> Array:
        """True pose ``[4, 4]`` of the middle of the sole's underside in the world."""
        return pose_matrix(self._data.xpos[self._sole], self._data.xmat[self._sole].reshape(3, 3))

    @property
    def surface_pose(self) -> Array:
        """True pose ``[4, 4]`` of the surface's frame in the world."""
        rotation = np.empty(9)
        self._mujoco.mju_quat2Mat(rotation, self._data.mocap_quat[self._surface])
        return pose_matrix(self._data.mocap_pos[self._surface], rotation.reshape(3, 3))

    @property
    def force(self) -> float:
        """True force that the tool's spring presses its sole with [N], on whatever is below."""
        spring = SPRING * self._data.qpos[self._spring]
        return max(0.0, float(spring + SPRING_DAMPING * self._data.qvel[self._spring_velocity]))

    @property
    def sole_place(self) -> Array:
        """True place ``[3]`` of the sole: along and across the surface, and above it there [m]."""
        sole = invert_pose(self.surface_pose) @ self.sole_pose
        along, across = sole[:2, 3]
        above = (invert_pose(self.frame_at(along, across)) @ sole)[2, 3]
        return np.array([along, across, above])

    @property
    def touching(self) -> bool:
        """Whether the sole is on the surface and pressed."""
        place = self.sole_place
        inside = np.abs(place[:2]) <= np.abs(self.mark_places).max(axis=0) + self.sole
        return bool(inside.all() and abs(place[2]) <= TOUCHING and self.force > 0.1)

    @property
    def done(self) -> Array:
        """Which marks the work is done at, ``[N]`` bool."""
        surface = self.surface_pose
        at = (self._data.mocap_pos[self._marks] - surface[:3, 3]) @ surface[:3, :3]
        sunk = np.linalg.norm(at - self._frames[:, :3, 3], axis=1) > 0.5 * SUNK
        return np.logical_not(sunk) if self.appears else sunk

    def success(self) -> bool:
        """Returns whether enough of the surface is done."""
        return bool(self.done.mean() >= self.needed)

    def progress(self) -> float:
        """Returns how far the task is: 0.15 for reaching the tool, 0.15 for bringing it, then the work."""
        share = min(1.0, self.done.mean() / self.needed)
        tool = self.tool_pose[:3, 3]
        reached = _nearness(self._robot.tcp_pose[:3, 3] - tool)
        brought = _nearness(self.sole_pose[:3, 3] - self.surface_pose[:3, 3])
        return 0.7 * share + 0.15 * max(reached, share) + 0.15 * max(brought, share)

    def _worked_on(self) -> Array:
        """Returns which marks are under the working part of a sole that presses well, ``[N]`` bool."""
        lowest, highest = self.force_band
        if not lowest <= self.force <= highest:
            return np.zeros(len(self._frames), bool)
        sole = invert_pose(self.surface_pose) @ self.sole_pose
        at = np.abs((self._frames[:, :3, 3] - sole[:3, 3]) @ sole[:3, :3])
        return np.all(at <= (*self.works, TOUCHING), axis=1)

    def _place_marks(self, done: Array) -> None:
        depth = np.where(done == self.appears, 0.0, SUNK)
        places = self._frames[:, :3, 3] - depth[:, None] * self._frames[:, :3, 2]
        surface = self.surface_pose
        self._data.mocap_pos[self._marks] = surface[:3, 3] + places @ surface[:3, :3].T


def _nearness(away: Array) -> float:
    return float(np.clip(1.0 - np.linalg.norm(away) / 0.3, 0.0, 1.0))
