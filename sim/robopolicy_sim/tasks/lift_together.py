"""Two robots lift a tray with a cup on it, after RDP's bimanual lifting (arXiv 2503.02881)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from robopolicy_datasets.geometry import Array, pose_matrix
from robopolicy_sim.tasks.configs import LiftTogetherConfig
from robopolicy_sim.tasks.manipulation import ManipulationEnv
from robopolicy_sim.worlds.body import Body
from robopolicy_sim.worlds.mjcf import Element, add, add_geom, section
from robopolicy_sim.worlds.scene import Scene, View
from robopolicy_sim.worlds.scenery import GRASPED, add_table

TRAY_HALF_SIZE = (0.09, 0.19, 0.004)  # [m]
TRAY_MASS = 0.35  # [kg]
RIM = 0.012  # [m] height of the tray's rim
HANDLE_HALF_SIZE = (0.025, 0.009, 0.03)  # [m]
HANDLE_BESIDE = 0.21  # [m] of the handles from the tray's middle
HANDLE_MASS = 0.12  # [kg]
HANDLE_TRAVEL = 0.015  # [m] that a handle gives way to either side
HANDLE_STIFFNESS = 800.0  # [N/m]
CUP_RADIUS = 0.025  # [m]
CUP_HALF_HEIGHT = 0.035  # [m]
CUP_MASS = 0.12  # [kg]
AREA = (0.08, 0.04)  # [m] x and y extent of the tray's places
YAW = 0.2  # [rad] largest turn of the tray to either side
CUP_AREA = (0.06, 0.16)  # [m] of the cup's places on the tray
LIFTED = 0.12  # [m] that the tray must rise
LEVEL = 0.14  # [rad] that the tray may lean at success
UPRIGHT_CUP = 0.5  # [rad] that the cup may lean on the tray
STILL = 0.15  # [m/s] of the tray at success, at most


class LiftTogetherScene(Scene):
    """A table with a tray that has a handle at either end, and two robots side by side.

    The handles give a little along the tray, as a thin tray does: arms that hold their places stiffly would
    else pull it out of each other's fingers.
    """

    name = "lift_together"
    task_text = "lift the tray together without spilling the cup"
    num_robots = 2
    center = (0.46, 0.0, 0.0)
    extent = (0.08, 0.06, 0.0)
    start = (0.0, 0.0, 0.22)
    scales = False
    views = {  # noqa: RUF012 (never changed)
        "camera0": View((1.04, 0.0, 0.66), (0.46, 0.0, 0.08), 42.0),
        "video": View((1.42, -0.80, 0.86), (0.30, 0.0, 0.18), 42.0),
    }

    def reach_center(self, number: int) -> tuple[float, float, float]:
        """See ``Scene``: around the robot's handle, as high as the tray is lifted."""
        side = HANDLE_BESIDE if number else -HANDLE_BESIDE
        return (self.center[0], side, 0.5 * LIFTED)

    def build(self, root: Element) -> None:
        """Adds the table, the tray and the cup."""
        add_table(root)
        world = section(root, "worldbody")
        tray = add(world, "body", name="tray", pos=(*self.center[:2], TRAY_HALF_SIZE[2]))
        add(tray, "freejoint", name="tray")
        _add_tray(tray)
        for number, side in enumerate((-1.0, 1.0)):
            place = (0, side * HANDLE_BESIDE, HANDLE_HALF_SIZE[2] + RIM)
            _add_handle(add(tray, "body", name=f"handle{number}", pos=place), number)
        cup = add(world, "body", name="cup", pos=(*self.center[:2], _CUP_HEIGHT))
        add(cup, "freejoint", name="cup")
        _add_cup(cup)

    def bind(self, model: Any, data: Any, robots: Sequence[Body]) -> None:
        """Looks up the tray, its handles and the cup."""
        self._data, self._robots = data, robots
        self._tray, self._cup = model.body("tray").id, model.body("cup").id
        self._handles = [model.body(f"handle{number}").id for number in range(2)]
        self._joints = {name: int(model.joint(name).qposadr[0]) for name in ("tray", "cup")}
        self._tray_velocity = int(model.joint("tray").dofadr[0])

    def reset(self, random: np.random.Generator) -> None:
        """Puts the tray at a random place, and the cup somewhere on it."""
        half = 0.5 * np.array(AREA)
        place = np.array(self.center[:2]) + random.uniform(-half, half)
        yaw = random.uniform(-YAW, YAW)
        axes = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        cup = place + axes @ (0.5 * random.uniform(-1.0, 1.0, 2) * CUP_AREA)
        turn = (np.cos(0.5 * yaw), 0.0, 0.0, np.sin(0.5 * yaw))
        for name, at in (("tray", (*place, TRAY_HALF_SIZE[2])), ("cup", (*cup, _CUP_HEIGHT))):
            start = self._joints[name]
            self._data.qpos[start : start + 7] = (*at, *turn)

    @property
    def tray_pose(self) -> Array:
        """True pose ``[4, 4]`` of the tray in the world."""
        return self._pose(self._tray)

    @property
    def cup_pose(self) -> Array:
        """True pose ``[4, 4]`` of the cup in the world."""
        return self._pose(self._cup)

    def handle_pose(self, number: int) -> Array:
        """Returns the true pose ``[4, 4]`` of the handle for robot ``number``; it is thin along y."""
        return self._pose(self._handles[number])

    @property
    def raised(self) -> float:
        """How far the tray has risen [m]."""
        return float(self._data.xpos[self._tray][2]) - TRAY_HALF_SIZE[2]

    def success(self) -> bool:
        """Returns whether the tray is up, level and still, and the cup stands on it."""
        speed = np.linalg.norm(self._data.qvel[self._tray_velocity : self._tray_velocity + 3])
        level = self.tray_pose[2, 2] >= np.cos(LEVEL)
        return bool(self.raised >= LIFTED and level and speed < STILL and self.cup_stands)

    @property
    def cup_stands(self) -> bool:
        """Whether the cup stands on the tray."""
        tray, cup = self.tray_pose, self.cup_pose
        above = tray[:3, :3].T @ (cup[:3, 3] - tray[:3, 3]) - [0.0, 0.0, TRAY_HALF_SIZE[2] + CUP_HALF_HEIGHT]
        upright = tray[:3, 2] @ cup[:3, 2] >= np.cos(UPRIGHT_CUP)
        return bool(upright and abs(above[2]) < 0.02 and np.all(np.abs(above[:2]) < TRAY_HALF_SIZE[:2]))

    def progress(self) -> float:
        """Returns how far the task is: 0.15 for each robot at its handle, the rest for the height."""
        reached = 0.0
        for robot in self._robots:
            away = np.linalg.norm(robot.tcp_pose[:3, 3] - self.handle_pose(robot.number)[:3, 3])
            reached += 0.15 * float(np.clip(1.0 - away / 0.3, 0.0, 1.0))
        lifted = float(np.clip(self.raised / LIFTED, 0.0, 1.0))
        return reached + (0.95 - reached) * lifted * self.tray_pose[2, 2] ** 2

    def _pose(self, body: int) -> Array:
        return pose_matrix(self._data.xpos[body], self._data.xmat[body].reshape(3, 3))


_CUP_HEIGHT = 2 * TRAY_HALF_SIZE[2] + CUP_HALF_HEIGHT  # of its middle, on a tray on the table


def _add_tray(tray: Element) -> None:
    x, y, _ = TRAY_HALF_SIZE
    add_geom(tray, "box", solid=True, size=TRAY_HALF_SIZE, mass=TRAY_MASS, material="arm", **GRASPED)
    for sign in (-1, 1):
        for place, size in (((sign * x, 0, RIM), (0.003, y, RIM)), ((0, sign * y, RIM), (x, 0.003, RIM))):
            add_geom(tray, "box", solid=True, pos=place, size=size, material="accent")


def _add_handle(handle: Element, number: int) -> None:
    add(
        handle,
        "joint",
        name=f"handle{number}",
        type="slide",
        axis=(0, 1, 0),
        range=(-HANDLE_TRAVEL, HANDLE_TRAVEL),
        stiffness=HANDLE_STIFFNESS,
        damping=8.0,
    )
    size, mass = HANDLE_HALF_SIZE, HANDLE_MASS
    add_geom(handle, "box", solid=True, size=size, mass=mass, material="cube", **GRASPED)
    add_geom(handle, "box", pos=(0, 0, -size[2]), size=(0.012, 0.02, 0.004), material="accent")


def _add_cup(cup: Element) -> None:
    size, friction = (CUP_RADIUS, CUP_HALF_HEIGHT), (0.8, 0.01, 0.001)
    add_geom(cup, "cylinder", solid=True, size=size, mass=CUP_MASS, material="pad", friction=friction)
    top = (0.8 * CUP_RADIUS, 0.0005)
    add_geom(cup, "cylinder", pos=(0, 0, CUP_HALF_HEIGHT), size=top, material="pad_centre")


class LiftTogetherEnv(ManipulationEnv):
    """The task as a Gymnasium environment, see ``ManipulationEnv``."""

    scene: LiftTogetherScene

    def __init__(self, config: LiftTogetherConfig | None = None, render_mode: str | None = None) -> None:
        super().__init__(config or LiftTogetherConfig(), LiftTogetherScene(), render_mode)
