"""A scripted expert for pushing: behind the cube, then along the line from the cube to the pad."""

from __future__ import annotations

import math
from enum import Enum
from typing import ClassVar

import numpy as np

from robopolicy_datasets.geometry import Array
from robopolicy_sim.experts.configs import ScriptedConfig
from robopolicy_sim.experts.expert import Expert, funnel, length, step_towards, tool_down, wrap
from robopolicy_sim.tasks.pick_place import CUBE_HALF_SIZE
from robopolicy_sim.worlds.world import World

BEHIND = 0.060  # [m] of the tool from the cube's middle, before it pushes
CONTACT = 0.035  # [m] while it pushes
HEIGHT = 0.018  # [m] of the TCP above the table while it pushes
HOME = 0.010  # [m] of the cube from the pad's middle that is near enough
BESIDE = 0.022  # [m] off the line at which a push is begun anew
LARGEST_TURN = 0.25  # [rad] of the tool in a step
NEAR_HEIGHT = 0.07  # [m] below which the fingers may touch the cube


class Phase(Enum):
    """What the expert is doing."""

    APPROACH = "approach"
    PUSH = "push"
    RETREAT = "retreat"


class PushExpert(Expert):
    """Chooses actions from the true state of the world; see ``Expert``."""

    mishaps: ClassVar[tuple[str, ...]] = ("slide",)

    def __init__(self, world: World, config: ScriptedConfig, random: np.random.Generator) -> None:
        super().__init__(world, config, random)
        self.phase = Phase.APPROACH
        self._travel_height = random.uniform(0.09, 0.13)
        self._travel_speed = random.uniform(0.038, 0.06)
        self._push_speed = random.uniform(0.018, 0.026)
        self._kick = random.choice([-1.0, 1.0]) * 0.04
        self._closed = world.robot.embodiment.parallel_gripper.min_width

    def act(self) -> Array:
        """See ``Expert``."""
        tool = self.world.robot.tcp_pose
        tcp, yaw = tool[:3, 3], math.atan2(tool[1, 0], tool[0, 0])
        cube, way = self.scene.cube_pose[:2, 3], self._way()
        # The outside of a finger pushes: a corner of the cube would get between the two.
        turn = wrap(math.atan2(way[1], way[0]) - yaw - 0.5 * np.pi, np.pi)
        self.phase = self._next_phase(tcp, cube, way)
        if self.phase is Phase.APPROACH:
            goal = self._behind(tcp, cube, way, turn)
        elif self.phase is Phase.PUSH:
            ahead = min(self._push_speed, self._remaining()) - CONTACT
            goal = np.array([*(cube + ahead * way), HEIGHT])
        else:
            goal = self._away(tcp, cube)
        speed = self._push_speed if self.phase is Phase.PUSH else self._travel_speed
        turning = min(max(turn, -LARGEST_TURN), LARGEST_TURN) if self.phase is Phase.APPROACH else 0.0
        return np.concatenate([step_towards(tcp, goal, speed), tool_down(yaw + turning), [self._closed]])

    @property
    def near(self) -> bool:
        """See ``Expert``."""
        return bool(self.world.robot.tcp_pose[2, 3] < NEAR_HEIGHT)

    def mishappen(self, executed: Array) -> bool:
        """Slides off the cube's side."""
        if happening := self.phase is Phase.PUSH:
            executed[:2] += self._kick * np.array([-self._way()[1], self._way()[0]])
        return happening

    def _remaining(self) -> float:
        return length(self.scene.pad_position[:2] - self.scene.cube_pose[:2, 3])

    def _way(self) -> Array:
        """Returns the direction ``[2]`` from the cube to the pad."""
        way = self.scene.pad_position[:2] - self.scene.cube_pose[:2, 3]
        return way / max(length(way), 1e-6)

    def _next_phase(self, tcp: Array, cube: Array, way: Array) -> Phase:
        """Decides by what is seen now, so that whatever went wrong is tried again."""
        home = 2 * HOME if self.phase is Phase.RETREAT else HOME
        if self._remaining() < home:
            return Phase.RETREAT
        along = float((tcp[:2] - cube) @ way)
        beside = abs(float((tcp[:2] - cube) @ (-way[1], way[0])))
        low = tcp[2] < HEIGHT + 0.012
        if self.phase is Phase.PUSH and low and along < -0.015 and beside < BESIDE:
            return Phase.PUSH
        ready = low and -BEHIND - 0.015 < along < -CONTACT and beside < 0.5 * BESIDE
        return Phase.PUSH if ready else Phase.APPROACH

    def _behind(self, tcp: Array, cube: Array, way: Array, turn: float) -> Array:
        """Returns the way to behind the cube: from above, for low fingers would push it aside."""
        behind = cube - BEHIND * way
        error = length(tcp[:2] - behind) + 0.1 * max(abs(turn) - 0.1, 0.0)
        low = tcp[2] < 2 * CUBE_HALF_SIZE + 0.02 and error > 0.02
        height = HEIGHT + funnel(error - 0.01, self._travel_height)
        return np.array([*(tcp[:2] if low else behind), height])

    def _away(self, tcp: Array, cube: Array) -> Array:
        """Returns the way back from the cube, then up."""
        back = tcp[:2] - cube
        touching = length(back) < BEHIND - 0.01 and tcp[2] < 2 * CUBE_HALF_SIZE + 0.01
        if touching:
            return np.array([*(cube + BEHIND / max(length(back), 1e-6) * back), tcp[2]])
        return np.array([*tcp[:2], self._travel_height])
