"""A scripted expert that tidies a table, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from robopolicy_datasets.geometry import Array, pose_matrix
from robopolicy_sim.experts.configs import ScriptedConfig
from robopolicy_sim.experts.expert import Expert, funnel
from robopolicy_sim.experts.grasping import Grasp, command, holds, let_go, take
from robopolicy_sim.tasks.tidy_table import (
    CUBE_HALF_SIZE,
    CUBES,
    HANDLE_HALF_SIZE,
    TidyTableScene,
)
from robopolicy_sim.worlds.scene import TOOL_DOWN
from robopolicy_sim.worlds.world import World

LET_GO_WIDTH = 0.05  # [m] to which the gripper opens in the drawer, beside its walls and the other cube
OPENED = 0.105  # [m] to which the drawer is pulled
BEYOND = 0.005  # [m] that the handle is moved beyond what is wanted of the drawer
OVER_WALLS = 0.10  # [m] of a cube's middle over its place while it is brought there
ABOVE_SLOT = 0.008  # [m] over its place that a cube is let go


@dataclass(frozen=True)
class Style:
    """How one episode is done; differs from episode to episode.

    Attributes:
        height: over things before going down to them [m].
        speed: largest move in a step [m].
        pull: largest move of the drawer in a step [m].
        pauses: steps of rest before each stage.
    """

    height: float
    speed: float
    pull: float
    pauses: tuple[int, ...]

    @classmethod
    def draw(cls, random: np.random.Generator) -> Style:
        """Draws a style at random."""
        return cls(
            height=random.uniform(0.09, 0.12),
            speed=random.uniform(0.038, 0.055),
            pull=random.uniform(0.015, 0.025),
            pauses=tuple(int(steps) for steps in random.integers(0, 5, len(TidyTableScene.stages) + 1)),
        )


class TidyTableExpert(Expert):
    """Does what the scene says is due, see ``TidyTableScene.stage`` and ``Expert``."""

    mishaps: ClassVar[tuple[str, ...]] = ("miss", "slip")

    scene: TidyTableScene

    def __init__(self, world: World, config: ScriptedConfig, random: np.random.Generator) -> None:
        super().__init__(world, config, random)
        self.style = Style.draw(random)
        self._rests = list(self.style.pauses)
        self._clumsy = int(random.integers(len(CUBES)))
        angle = random.uniform(-np.pi, np.pi)
        self._kick = 0.04 * np.array([np.cos(angle), np.sin(angle), 0.7])

    def act(self) -> Array:
        """See ``Expert``."""
        robot, stage = self.world.robot, self.scene.stage
        if 0 < stage <= len(CUBES) and self.scene.opening < OPENED and holds(robot, self._grasp(0)):
            stage = 0  # a little further
        grasp = self._grasp(stage)
        if not holds(robot, grasp):
            if self._rests[stage] > 0 and robot.tcp_pose[2, 3] > self.style.height:
                self._rests[stage] -= 1
                return let_go(robot, robot.gripper_width)
            return take(robot, grasp, height=self.style.height, speed=self.style.speed)
        cube = self._cube(stage)
        return self._slide(stage) if cube is None else self._store(cube)

    @property
    def near(self) -> bool:
        """See ``Expert``."""
        robot, stage = self.world.robot, self.scene.stage
        return self._grasp(stage).near(robot) if self._cube(stage) is None else robot.tcp_pose[2, 3] < 0.08

    def mishappen(self, executed: Array) -> bool:
        """Misses a cube before it is taken, or lets it slip soon after."""
        robot, stage = self.world.robot, self.scene.stage
        if self._cube(stage) != self._clumsy:
            return False
        grasp = self._grasp(stage)
        held = holds(robot, grasp)
        if self.mishap == "miss":
            if happening := not held and grasp.near(robot):
                executed[:3] += self._kick
        elif happening := held and bool(0.02 < self.scene.cube_pose(self._clumsy)[2, 3] < 0.06):
            executed[6] = robot.embodiment.parallel_gripper.max_width
        return happening

    def _cube(self, stage: int) -> int | None:
        """Which cube a stage is about."""
        return stage - 1 if 1 <= stage <= len(CUBES) else None

    def _grasp(self, stage: int) -> Grasp:
        cube = self._cube(stage)
        if cube is None:
            handle = self.scene.handle_pose
            place = np.add(handle[:3, 3], (0.0, 0.0, 0.008))
            return Grasp(pose_matrix(place, handle[:3, :3] @ TOOL_DOWN), 2 * HANDLE_HALF_SIZE[1])
        pose = self.scene.cube_pose(cube)
        side = pose[:3, np.argmin(np.abs(pose[2, :3]))]  # of whichever faces are upright
        yaw = np.arctan2(side[1], side[0])
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0.0], [np.sin(yaw), np.cos(yaw), 0.0], [0.0, 0.0, 1.0]])
        return Grasp(
            pose_matrix(pose[:3, 3], turn @ TOOL_DOWN), 2 * CUBE_HALF_SIZE, np.pi / 2, clearance=0.08
        )

    def _slide(self, stage: int) -> Array:
        """Pulls or pushes the held handle."""
        robot, grasp = self.world.robot, self._grasp(stage)
        wanted = OPENED + BEYOND if stage == 0 else -BEYOND
        move = np.clip(wanted - self.scene.opening, -self.style.pull, self.style.pull)
        along = grasp.offset(robot)[0] - move  # from where the hand is: fingers may have slipped along
        place = grasp.pose[:3, 3] + along * grasp.pose[:3, 0]
        return command(robot, pose_matrix(place, grasp.rotation(robot)), 0.0, self.style.speed)

    def _store(self, number: int) -> Array:
        """Brings the held cube over its place in the drawer, down, and lets go."""
        robot, cube = self.world.robot, self.scene.cube_pose(number)
        slot = self.scene.slot_position(number)
        beside = float(np.linalg.norm(cube[:2, 3] - slot[:2]))
        above = float(cube[2, 3] - slot[2])
        if beside < 0.015 and above < ABOVE_SLOT + 0.006:
            return let_go(robot, LET_GO_WIDTH)
        place = np.add(slot, (0.0, 0.0, ABOVE_SLOT + funnel(beside - 0.008, OVER_WALLS)))
        if above < 0.8 * OVER_WALLS and beside > 0.04:  # up before it goes sideways
            place[:2] = cube[:2, 3]
            place[2] = slot[2] + OVER_WALLS
        level = pose_matrix(cube[:3, 3], self.scene.drawer_pose[:3, :3] @ TOOL_DOWN)
        rotation = Grasp(level, 2 * CUBE_HALF_SIZE).rotation(robot)  # the fingers open along the drawer
        goal = pose_matrix(robot.tcp_pose[:3, 3] + place - cube[:3, 3], rotation)
        return command(robot, goal, 0.0, self.style.speed)
