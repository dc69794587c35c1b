"""What the scripted experts that press a tool along a surface share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.spatial.transform import Rotation

from robopolicy_datasets.geometry import Array, axis_angle_to_matrix, pose_matrix
from robopolicy_sim.experts.configs import ScriptedConfig
from robopolicy_sim.experts.expert import Expert, funnel
from robopolicy_sim.experts.grasping import Grasp, bring, command, holds, take
from robopolicy_sim.tasks.surface import HANDLE_HALF_SIZE, SOLE_BELOW, SPRING, SurfaceScene
from robopolicy_sim.worlds.scene import TOOL_DOWN
from robopolicy_sim.worlds.world import World

BESIDE = 0.012  # [m] from the stroke within which the tool comes down
OVERRUN = 0.004  # [m] that a stroke goes beyond a mark
NEAR_SURFACE = 0.02  # [m] over it, below which the sole may touch it
RISE = 0.04  # [m] in a step, of a sole that is low beside its place
FALLEN = 0.8  # height of the tool's axis from which on it has fallen over, and is given up
LIFT = 0.03  # [m] that the tool is lifted off by mishap, a step


@dataclass(frozen=True)
class Style:
    """How one episode is done; differs from episode to episode.

    Attributes:
        height: over the handle and the surface before going down [m].
        speed: largest move in a step through the air [m].
        stroke: largest move in a step along the surface [m].
        force: that is aimed at, as a share of the wanted one.
        pause: steps for which the tool rests where the stroke begins.
        forwards: whether the stroke goes along the surface's x.
    """

    height: float
    speed: float
    stroke: float
    force: float
    pause: int
    forwards: bool

    @classmethod
    def draw(cls, random: np.random.Generator) -> Style:
        """Draws a style at random."""
        return cls(
            height=random.uniform(0.06, 0.10),
            speed=random.uniform(0.038, 0.055),
            stroke=random.uniform(0.007, 0.012),
            force=random.uniform(0.9, 1.1),
            pause=int(random.integers(0, 5)),
            forwards=bool(random.random() < 0.5),
        )


class SurfaceExpert(Expert):
    """Takes the tool, sets it down at one end of what is left to do, and strokes over it; see ``Expert``."""

    mishaps: ClassVar[tuple[str, ...]] = ("miss", "lift")
    noise_near: ClassVar[float] = 0.003  # a hand that rests on something is steadier

    scene: SurfaceScene

    def __init__(self, world: World, config: ScriptedConfig, random: np.random.Generator) -> None:
        super().__init__(world, config, random)
        self.style = Style.draw(random)
        self._rest = self.style.pause
        angle = random.uniform(-np.pi, np.pi)
        self._kick = np.array(
            [0.03 * np.cos(angle), 0.03 * np.sin(angle), 0.05]
        )  # over the handle, not into it

    def act(self) -> Array:
        """See ``Expert``."""
        robot, grasp = self.world.robot, self._grasp()
        if not holds(robot, grasp):
            if self.scene.tool_pose[2, 2] < FALLEN:  # no gripper comes around it from the side
                return command(robot, self.scene.start_pose(0), robot.gripper_width, self.style.speed)
            return take(robot, grasp, height=self.style.height, speed=self.style.speed)
        if not self.scene.touching:
            return self._to_surface()
        if self._rest > 0:
            self._rest -= 1
            return self._press(0.0)
        return self._press(self._ahead())

    @property
    def near(self) -> bool:
        """See ``Expert``."""
        robot, grasp = self.world.robot, self._grasp()
        return self.scene.sole_place[2] < NEAR_SURFACE if holds(robot, grasp) else grasp.near(robot)

    def mishappen(self, executed: Array) -> bool:
        """Misses the handle before it is taken, or loses the surface during the stroke."""
        robot, grasp = self.world.robot, self._grasp()
        held = holds(robot, grasp)
        if self.mishap == "miss":
            if happening := not held and grasp.near(robot):
                executed[:3] = robot.tcp_pose[:3, 3] + self._kick
        elif happening := held and bool(self.scene.done.mean() > 0.3):
            executed[:3] += LIFT * self.scene.surface_pose[:3, 2]
        return happening

    def _grasp(self) -> Grasp:
        pose = self.scene.tool_pose
        down = pose_matrix(pose[:3, 3] + 0.006 * pose[:3, 2], pose[:3, :3] @ TOOL_DOWN)
        return Grasp(down, 2 * HANDLE_HALF_SIZE[0], np.pi / 2)

    def _left(self) -> Array:
        """Where marks are left to do, along the stroke ``[M]`` [m]; all of them once none is."""
        places, done = self.scene.mark_places[:, 0], self.scene.done
        return places if done.all() else places[np.logical_not(done)]

    def _to_surface(self) -> Array:
        """Brings the tool over the end of what is left, and down there."""
        left, sole, tool = self._left(), self.scene.sole_place, self.scene.tool_pose
        end = left.min() if self.style.forwards else left.max()
        goal = self._tool_goal(end)
        beside = float(np.linalg.norm(sole[:2] - [end, 0.0]))
        turn = Rotation.from_matrix(goal[:3, :3] @ tool[:3, :3].T).magnitude()
        above = funnel(beside + 0.1 * turn - BESIDE, self.style.height)
        if sole[2] < NEAR_SURFACE and beside > 2 * BESIDE:
            goal, above = tool, RISE  # a sole beside its place is not to be dragged there
        elif above == 0.0:
            above = -self._pressed()
        goal[:3, 3] += above * goal[:3, 2]
        return bring(self.world.robot, self.scene.tool_pose, goal, self.style.speed)

    def _ahead(self) -> float:
        """Returns how far the stroke goes on in this step [m]."""
        left, along = self._left(), self.scene.sole_place[0]
        sign = 1.0 if self.style.forwards else -1.0
        before = left[sign * (left - along) > -OVERRUN]
        following = before if len(before) else left
        move = following[np.argmin(np.abs(following - along))] - along
        move += np.copysign(OVERRUN, move)
        return float(np.clip(move, -self.style.stroke, self.style.stroke))

    def _press(self, ahead: float) -> Array:
        """Moves along the surface, and to or from it by what the force lacks."""
        scene = self.scene
        along = scene.sole_place[0]
        here, goal = self._tool_goal(along), self._tool_goal(along + ahead)
        above = float((scene.tool_pose[:3, 3] - here[:3, 3]) @ here[:3, 2])
        goal[:3, 3] += (above + (scene.force / SPRING - self._pressed())) * goal[:3, 2]
        return bring(self.world.robot, scene.tool_pose, goal, self.style.speed)

    def _pressed(self) -> float:
        """How far the spring is to be pressed together [m]."""
        return self.style.force * self.scene.wanted_force / SPRING

    def _tool_goal(self, along: float) -> Array:
        """Returns the pose ``[4, 4]`` of a tool that just touches the surface, ``along`` the stroke [m]."""
        goal = self.scene.surface_pose @ self.scene.frame_at(along, 0.0)
        goal[:3, 3] += SOLE_BELOW * goal[:3, 2]
        if goal[:3, 0] @ self.scene.tool_pose[:3, 0] < 0.0:  # the sole looks the same from both sides
            goal[:3, :3] = goal[:3, :3] @ axis_angle_to_matrix(np.array([0.0, 0.0, np.pi]))
        return goal
