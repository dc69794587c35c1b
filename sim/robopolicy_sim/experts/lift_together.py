"""A scripted expert with two hands that lifts a tray."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from robopolicy_datasets.geometry import Array, invert_pose, pose_matrix
from robopolicy_sim.experts.configs import ScriptedConfig
from robopolicy_sim.experts.expert import Expert
from robopolicy_sim.experts.grasping import Grasp, command, holds, take
from robopolicy_sim.tasks.lift_together import HANDLE_BESIDE, HANDLE_HALF_SIZE, LIFTED, LiftTogetherScene
from robopolicy_sim.worlds.body import Body
from robopolicy_sim.worlds.scene import TOOL_DOWN
from robopolicy_sim.worlds.world import World

BEYOND = 0.03  # [m] over the height wanted


@dataclass(frozen=True)
class Style:
    """How one episode is done; differs from episode to episode.

    Attributes:
        height: over the handles before going down [m].
        speeds: largest move of each hand in a step through the air (2) [m].
        lift: largest move in a step with the tray [m].
        pause: steps for which the hands rest before they lift.
    """

    height: float
    speeds: tuple[float, float]
    lift: float
    pause: int

    @classmethod
    def draw(cls, random: np.random.Generator) -> Style:
        """Draws a style at random."""
        return cls(
            height=random.uniform(0.06, 0.10),
            speeds=(random.uniform(0.035, 0.055), random.uniform(0.035, 0.055)),
            lift=random.uniform(0.007, 0.012),
            pause=int(random.integers(0, 5)),
        )


class LiftTogetherExpert(Expert):
    """Each hand takes its handle and waits for the other; then both raise the tray, level. See ``Expert``."""

    mishaps: ClassVar[tuple[str, ...]] = ("miss",)
    noise_near: ClassVar[float] = 0.003  # hands that hold one thing feel each other ...
    noise_turn: ClassVar[float] = 0.015  # ... and a twist of one sways the other's handle

    scene: LiftTogetherScene

    def __init__(self, world: World, config: ScriptedConfig, random: np.random.Generator) -> None:
        super().__init__(world, config, random)
        self.style = Style.draw(random)
        self._rest = self.style.pause
        self._clumsy = int(random.integers(2))
        self._kick = np.array([random.choice((-0.05, 0.05)), 0.0, 0.01])  # along the handle

    def act(self) -> Array:
        """See ``Expert``."""
        robots = self.world.robots
        if not all(holds(robot, self._grasp(robot)) for robot in robots):
            return np.concatenate([self._take(robot) for robot in robots])
        tray = self.scene.tray_pose
        goal = pose_matrix(tray[:3, 3], _level(tray[:3, :3]))
        if self._rest > 0:
            self._rest -= 1
        else:
            goal[2, 3] += np.clip(LIFTED + BEYOND - self.scene.raised, -self.style.lift, self.style.lift)
        return np.concatenate([self._lift(robot, tray, goal) for robot in robots])

    @property
    def near(self) -> bool:
        """See ``Expert``."""
        return any(self._grasp(robot).near(robot) for robot in self.world.robots)

    def mishappen(self, executed: Array) -> bool:
        """One hand misses its handle."""
        robot = self.world.robots[self._clumsy]
        grasp = self._grasp(robot)
        happening = not holds(robot, grasp) and grasp.near(robot)
        if happening:
            executed[7 * robot.number : 7 * robot.number + 3] += self._kick
        return happening

    def _take(self, robot: Body) -> Array:
        grasp = self._grasp(robot)
        if holds(robot, grasp):  # waits for the other hand, the tray on the table
            wait = robot.tcp_pose
            wait[2, 3] -= self.scene.raised
            return command(robot, wait, 0.0, self.style.lift)
        return take(robot, grasp, height=self.style.height, speed=self.style.speeds[robot.number])

    def _lift(self, robot: Body, tray: Array, goal: Array) -> Array:
        """What the hands have come apart or twisted is made good: it would grow from step to step."""
        rotation = self._grasp(robot).rotation(robot)
        hand = invert_pose(tray) @ pose_matrix(robot.tcp_pose[:3, 3], rotation)
        hand[1, 3] = np.copysign(HANDLE_BESIDE, hand[1, 3])
        return command(robot, goal @ hand, 0.0, max(self.style.speeds))

    def _grasp(self, robot: Body) -> Grasp:
        handle = self.scene.handle_pose(robot.number)
        place = handle[:3, 3] + 0.006 * handle[:3, 2]
        return Grasp(pose_matrix(place, handle[:3, :3] @ TOOL_DOWN), 2 * HANDLE_HALF_SIZE[1])


def _level(rotation: Array) -> Array:
    """Returns the upright orientation ``[3, 3]`` with the same heading."""
    yaw = np.arctan2(rotation[1, 0], rotation[0, 0])
    return np.array([[np.cos(yaw), -np.sin(yaw), 0.0], [np.sin(yaw), np.cos(yaw), 0.0], [0.0, 0.0, 1.0]])
