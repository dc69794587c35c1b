"""Pick and place: a cube anywhere on the table goes onto a pad anywhere on the table, seen by two cameras."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from robopolicy_datasets.geometry import Array, pose_matrix
from robopolicy_sim.tasks.configs import PickPlaceConfig
from robopolicy_sim.tasks.manipulation import ManipulationEnv
from robopolicy_sim.worlds.body import Body
from robopolicy_sim.worlds.mjcf import Element, add, add_geom, section
from robopolicy_sim.worlds.scene import Scene, View
from robopolicy_sim.worlds.scenery import add_table

CUBE_HALF_SIZE = 0.02  # [m]
CUBE_MASS = 0.08  # [kg]
PAD_HALF_SIZE = 0.045  # [m]
CUBE_AREA = (0.20, 0.20)  # [m] x and y extent of the cube's starting places
CUBE_YAW = np.pi / 4  # [rad] largest turn to either side
PAD_AREA = (0.22, 0.26)  # [m] x and y extent of the pad's places
SUCCESS_DISTANCE = 0.03  # [m] of the cube from the pad's centre
SUCCESS_OPENING = 0.055  # [m] width that counts as open
SUCCESS_CLEARANCE = 0.03  # [m] that the TCP must be above the cube, in scale


class PickPlaceScene(Scene):
    """A table with a cube and a goal pad."""

    name = "pick_place"
    task_text = "put the cube on the pad"
    center = (0.48, 0.0, CUBE_HALF_SIZE)
    extent = (0.11, 0.13, 0.0)
    views = {  # noqa: RUF012 (never changed)
        "camera0": View((0.98, 0.0, 0.62), (0.475, 0.0, 0.045), 28.0),
        "video": View((1.30, -0.80, 0.82), (0.32, 0.0, 0.25), 39.0),
    }

    def build(self, root: Element) -> None:
        """Adds the table, the cube and the pad."""
        add_table(root)
        world = section(root, "worldbody")
        pad = add(world, "body", name="pad", mocap="true", pos=(*self.center[:2], 0))
        for material, half_size, height in (
            ("pad", PAD_HALF_SIZE, 0.0012),
            ("pad_centre", 0.5 * PAD_HALF_SIZE, 0.0020),
        ):
            add_geom(pad, "box", size=(half_size, half_size, height), material=material)
        cube = add(world, "body", name="cube", pos=self.center)
        add(cube, "freejoint", name="cube")
        # Its contact settings count with everything that it touches: stiff, and with friction that holds.
        contact = {"priority": 1, "condim": 4, "friction": (1.5, 0.02, 0.001), "solref": (0.01, 1)}
        size = (CUBE_HALF_SIZE,) * 3
        add_geom(cube, "box", solid=True, size=size, mass=CUBE_MASS, material="cube", **contact)

    def bind(self, model: Any, data: Any, robots: Sequence[Body]) -> None:
        """Looks up the cube and the pad."""
        self._data, self._robot = data, robots[0]
        self._cube_body = model.body("cube").id
        self._cube = int(model.joint("cube").qposadr[0])
        self._cube_velocity = int(model.joint("cube").dofadr[0])
        self._pad = int(model.body("pad").mocapid[0])

    def reset(self, random: np.random.Generator) -> None:
        """Puts cube and pad at random places apart from each other."""
        cube = self._place(random, CUBE_AREA)
        yaw = random.uniform(-CUBE_YAW, CUBE_YAW)
        pad = self._place(random, PAD_AREA)
        while np.max(np.abs(pad - cube)) < PAD_HALF_SIZE + 1.5 * CUBE_HALF_SIZE:
            # In a small area a cube in its middle leaves no place for the pad: both anew.
            cube, pad = self._place(random, CUBE_AREA), self._place(random, PAD_AREA)
        cube_pose = (*cube, CUBE_HALF_SIZE, np.cos(0.5 * yaw), 0.0, 0.0, np.sin(0.5 * yaw))
        self._data.qpos[self._cube : self._cube + 7] = cube_pose
        self._data.mocap_pos[self._pad] = (*pad, 0.0)

    @property
    def cube_pose(self) -> Array:
        """True pose ``[4, 4]`` of the cube in the world; for experts and scores, no policy sees it."""
        rotation = self._data.xmat[self._cube_body].reshape(3, 3)
        return pose_matrix(self._data.xpos[self._cube_body], rotation)

    @property
    def pad_position(self) -> Array:
        """True position ``[3]`` of the goal pad in the world [m]; for experts and scores."""
        return self._data.mocap_pos[self._pad].copy()

    @property
    def clear_height(self) -> float:
        """Height of the TCP above the table from which on it is clear of the cube [m]."""
        return 2 * CUBE_HALF_SIZE + SUCCESS_CLEARANCE * self.scale

    def success(self) -> bool:
        """Returns whether the cube rests on the pad, let go."""
        cube = self._data.qpos[self._cube : self._cube + 3]
        speed = np.linalg.norm(self._data.qvel[self._cube_velocity : self._cube_velocity + 3])
        at_goal = np.linalg.norm(cube[:2] - self.pad_position[:2]) <= SUCCESS_DISTANCE
        resting = abs(cube[2] - CUBE_HALF_SIZE) < 0.005 and speed < 0.05
        return bool(at_goal and resting and self.let_go())

    def let_go(self) -> bool:
        """Returns whether the gripper is open and clear of the cube."""
        return self._robot.gripper_width > SUCCESS_OPENING and self._robot.tcp_pose[2, 3] > self.clear_height

    def progress(self) -> float:
        """Returns how far the task is: 0.3 for reaching the cube, 0.6 for bringing it home."""
        cube = self._data.qpos[self._cube : self._cube + 3]
        reach = np.linalg.norm(self._robot.tcp_pose[:3, 3] - cube)
        away = np.linalg.norm(cube[:2] - self.pad_position[:2])
        reached = float(np.clip(1.0 - reach / 0.3, 0.0, 1.0))
        brought = float(np.clip(1.0 - away / 0.3, 0.0, 1.0))
        return 0.3 * max(reached, brought) + 0.6 * brought

    def _place(self, random: np.random.Generator, area: tuple[float, float]) -> Array:
        half = 0.5 * self.scale * np.array(area)
        return np.array(self.center[:2]) + random.uniform(-1.0, 1.0, 2) * half


class PickPlaceEnv(ManipulationEnv):
    """The task as a Gymnasium environment, see ``ManipulationEnv``."""

    scene: PickPlaceScene

    def __init__(self, config: PickPlaceConfig | None = None, render_mode: str | None = None) -> None:
        config = config or PickPlaceConfig()
        super().__init__(config, PickPlaceScene(), render_mode)
