"""Tidying in stages, each with a sentence: open a drawer, put two coloured cubes in, close it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from robopolicy_datasets.geometry import Array, pose_matrix
from robopolicy_sim.tasks.configs import TidyTableConfig
from robopolicy_sim.tasks.manipulation import ManipulationEnv
from robopolicy_sim.worlds.body import Body
from robopolicy_sim.worlds.mjcf import Element, add, add_geom, section
from robopolicy_sim.worlds.scene import Scene, View
from robopolicy_sim.worlds.scenery import GRASPED, add_table

CUBE_HALF_SIZE = 0.015  # [m]
CUBE_MASS = 0.08  # [kg]
CUBES = (("red", (0.84, 0.16, 0.14, 1.0)), ("blue", (0.15, 0.33, 0.80, 1.0)))
DRAWER_HALF_SIZE = (0.065, 0.095, 0.022)  # [m] outside
WALL = 0.004  # [m] half of the drawer's walls
DRAWER_ABOVE = 0.006  # [m] of the drawer's underside over the table
TRAVEL = 0.115  # [m] of the drawer
OPEN = 0.08  # [m] that counts as open
CLOSED = 0.008  # [m] that counts as closed
HANDLE_HALF_SIZE = (0.008, 0.009, 0.022)  # [m]
HANDLE_BEFORE = 0.032  # [m] of the drawer's front
CABINET_PLACE = (0.635, 0.0)  # [m] of the closed drawer's middle
CABINET_AREA = (0.02, 0.04)  # [m] x and y extent of its places
CABINET_YAW = 0.12  # [rad] largest turn to either side
CUBE_AREA = ((0.34, 0.43), (0.15, 0.22))  # [m] from and to: along x, and to either side along y
SLOTS = ((-0.02, -0.036), (-0.02, 0.036))  # [m] for the cubes in the drawer
LET_GO = 0.006  # [m] that the gripper must be wider than a cube in the drawer


class TidyTableScene(Scene):
    """A table with a small cabinet and two cubes. What is due follows from how things are.

    Attributes:
        stages: what is to be done in each stage, in order.
    """

    name = "tidy_table"
    task_text = "open the drawer, put the red cube and the blue cube in it, and close it"
    center = (0.45, 0.0, CUBE_HALF_SIZE)
    extent = (0.11, 0.21, 0.0)
    scales = False
    views = {  # noqa: RUF012 (never changed)
        "camera0": View((0.94, 0.42, 0.66), (0.50, 0.0, 0.02), 44.0),
        "video": View((0.72, -0.92, 0.72), (0.42, 0.0, 0.12), 39.0),
    }

    stages: ClassVar[tuple[str, ...]] = (
        "open the drawer",
        *(f"put the {color} cube in the drawer" for color, _ in CUBES),
        "close the drawer",
    )

    def build(self, root: Element) -> None:
        """Adds the table, the cabinet with its drawer, and the cubes."""
        add_table(root)
        world = section(root, "worldbody")
        cabinet = add(world, "body", name="cabinet", mocap="true", pos=(*CABINET_PLACE, 0))
        _add_shell(cabinet)
        drawer = add(cabinet, "body", name="drawer", pos=(0, 0, DRAWER_ABOVE))
        add(
            drawer,
            "joint",
            name="drawer",
            type="slide",
            axis=(-1, 0, 0),
            range=(0, TRAVEL),
            damping=4.0,
            frictionloss=1.5,
        )
        _add_drawer(drawer)
        add(section(root, "contact"), "exclude", body1="cabinet", body2="drawer")
        for color, rgba in CUBES:
            cube = add(world, "body", name=f"{color}_cube", pos=self.center)
            add(cube, "freejoint", name=f"{color}_cube")
            size = (CUBE_HALF_SIZE,) * 3
            add_geom(cube, "box", solid=True, size=size, mass=CUBE_MASS, rgba=rgba, **GRASPED)

    def bind(self, model: Any, data: Any, robots: Sequence[Body]) -> None:
        """Looks up the cabinet, the drawer and the cubes."""
        self._data, self._robot = data, robots[0]
        self._cabinet = int(model.body("cabinet").mocapid[0])
        self._drawer = model.body("drawer").id
        self._slide = int(model.joint("drawer").qposadr[0])
        self._cubes = [model.body(f"{color}_cube").id for color, _ in CUBES]
        self._cube_joints = [int(model.joint(f"{color}_cube").qposadr[0]) for color, _ in CUBES]

    def reset(self, random: np.random.Generator) -> None:
        """Closes the drawer, and puts the cabinet and the cubes at random places, a cube at either side."""
        half = 0.5 * np.array(CABINET_AREA)
        yaw = random.uniform(-CABINET_YAW, CABINET_YAW)
        self._data.mocap_pos[self._cabinet] = (*(CABINET_PLACE + random.uniform(-half, half)), 0.0)
        self._data.mocap_quat[self._cabinet] = _turned(yaw)
        side = random.choice((-1.0, 1.0))
        (near, far), (inner, outer) = CUBE_AREA
        for joint in self._cube_joints:
            place = (random.uniform(near, far), side * random.uniform(inner, outer), CUBE_HALF_SIZE)
            turn = _turned(random.uniform(-np.pi / 4, np.pi / 4))
            self._data.qpos[joint : joint + 7] = (*place, *turn)
            side = -side

    @property
    def opening(self) -> float:
        """How far the drawer is out [m]."""
        return float(self._data.qpos[self._slide])

    @property
    def drawer_pose(self) -> Array:
        """True pose ``[4, 4]`` of the drawer in the world; it comes out along -x."""
        return self._pose(self._drawer)

    @property
    def handle_pose(self) -> Array:
        """True pose ``[4, 4]`` of the upright handle in the world."""
        pose = self.drawer_pose
        pose[:3, 3] += pose[:3, :3] @ _HANDLE_PLACE
        return pose

    def cube_pose(self, number: int) -> Array:
        """Returns the true pose ``[4, 4]`` of a cube in the world; numbers as in ``CUBES``."""
        return self._pose(self._cubes[number])

    def slot_position(self, number: int) -> Array:
        """Returns where a cube's middle should go in the drawer, in the world ``[3]`` [m]."""
        pose = self.drawer_pose
        slot = np.array([*SLOTS[number], 2 * WALL + CUBE_HALF_SIZE])
        return pose[:3, 3] + pose[:3, :3] @ slot

    def stored(self, number: int) -> bool:
        """Returns whether a cube is in the drawer and the gripper has let go of it."""
        drawer, cube = self.drawer_pose, self.cube_pose(number)[:3, 3]
        at = drawer[:3, :3].T @ (cube - drawer[:3, 3])
        inside = np.all(np.abs(at[:2]) < DRAWER_HALF_SIZE[:2]) and at[2] < 2 * DRAWER_HALF_SIZE[2]
        apart = np.linalg.norm(self._robot.tcp_pose[:3, 3] - cube) > 0.05
        free = self._robot.gripper_width > 2 * CUBE_HALF_SIZE + LET_GO
        return bool(inside and (apart or free))

    @property
    def stage(self) -> int:
        """Which stage is due, counted from 0; ``len(stages)`` when all is done."""
        stored = [self.stored(number) for number in range(len(CUBES))]
        if all(stored):
            return len(self.stages) - (0 if self.opening <= CLOSED else 1)
        return 1 + stored.index(False) if self.opening >= OPEN else 0

    @property
    def stage_text(self) -> str:
        """What a person would be told to do now; empty when all is done."""
        return (*self.stages, "")[self.stage]

    def success(self) -> bool:
        """Returns whether the cubes are in the closed drawer."""
        return self.stage == len(self.stages)

    def progress(self) -> float:
        """Returns how far the task is: 0.25 for opening, 0.25 for each cube's way, 0.25 for closing."""
        shares = [self._brought(number) for number in range(len(CUBES))]
        every = float(np.prod(shares))
        opened = min(1.0, self.opening / OPEN)
        return 0.25 * (max(opened, every) + sum(shares) + every * (1.0 - opened))

    def _brought(self, number: int) -> float:
        """How near a cube is to its place in the drawer."""
        away = np.linalg.norm(self.cube_pose(number)[:3, 3] - self.slot_position(number))
        return float(np.clip(1.0 - (away - 0.02) / 0.3, 0.0, 1.0))

    def _pose(self, body: int) -> Array:
        return pose_matrix(self._data.xpos[body], self._data.xmat[body].reshape(3, 3))


_HANDLE_PLACE = np.array(
    [-DRAWER_HALF_SIZE[0] - HANDLE_BEFORE, 0.0, DRAWER_HALF_SIZE[2] + HANDLE_HALF_SIZE[2]]
)


def _add_shell(cabinet: Element) -> None:
    """The cabinet's sides, back and top around the closed drawer."""
    x, y, z = DRAWER_HALF_SIZE
    height = 0.5 * (2 * z + 2 * DRAWER_ABOVE) + WALL
    for place, size in (
        ((WALL, y + 0.008, height), (x + WALL, WALL, height)),
        ((WALL, -y - 0.008, height), (x + WALL, WALL, height)),
        ((x + 2 * WALL, 0, height), (WALL, y + 0.012, height)),
        ((WALL, 0, 2 * height), (x + 2 * WALL, y + 0.016, WALL)),
    ):
        add_geom(cabinet, "box", solid=True, pos=place, size=size, material="accent")


def _add_drawer(drawer: Element) -> None:
    """A flat box without a lid, and the handle before it."""
    x, y, z = DRAWER_HALF_SIZE
    for place, size in (
        ((0, 0, WALL), (x, y, WALL)),
        ((0, y - WALL, z), (x, WALL, z)),
        ((0, -y + WALL, z), (x, WALL, z)),
        ((x - WALL, 0, z), (WALL, y, z)),
        ((-x + WALL, 0, z), (WALL, y, z)),
    ):
        add_geom(drawer, "box", solid=True, pos=place, size=size, material="arm", mass=0.08)
    neck = (-x, 0, z, *_HANDLE_PLACE[:2], z)
    add_geom(drawer, "capsule", fromto=neck, size=0.006, material="dark")
    add_geom(
        drawer,
        "box",
        solid=True,
        pos=_HANDLE_PLACE,
        size=HANDLE_HALF_SIZE,
        mass=0.15,
        material="dark",
        **GRASPED,
    )


def _turned(yaw: float) -> tuple[float, float, float, float]:
    return (np.cos(0.5 * yaw), 0.0, 0.0, np.sin(0.5 * yaw))


class TidyTableEnv(ManipulationEnv):
    """The task as a Gymnasium environment, see ``ManipulationEnv``."""

    scene: TidyTableScene

    def __init__(self, config: TidyTableConfig | None = None, render_mode: str | None = None) -> None:
        super().__init__(config or TidyTableConfig(), TidyTableScene(), render_mode)
