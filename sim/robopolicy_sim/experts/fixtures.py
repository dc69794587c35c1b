"""What experts for fixtures share: they take one thing after another and bring it where it belongs.

At each moment an expert says what is to be in the hand now (``thing``) and where the hand goes with it
(``bring``); taking it, noticing that it was lost and trying again, and letting go are the same for all.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from enum import Enum
from typing import ClassVar

import numpy as np

from robopolicy_datasets.geometry import Array, axis_angle_to_matrix, matrix_to_axis_angle, pose_matrix
from robopolicy_drivers.embodiments import Embodiment
from robopolicy_sim.experts.configs import ScriptedConfig
from robopolicy_sim.experts.expert import Expert, funnel, length, step_towards
from robopolicy_sim.tasks.manipulation import RATE_HZ
from robopolicy_sim.worlds.world import World

LARGEST_TURN = 0.2  # [rad] of the tool in a step
FINGERS = 0.05  # [m] before a thing, from where on the fingers are beside it
AT_THING = 0.014  # [m] from where the fingers close
LOST = 0.03  # [m] of the tool from the thing that it holds
CLOSING_STEPS = 12  # after which whatever is between the fingers is taken
PAUSE_RATE = 0.01  # of steps at which a person would stop and look
LONGEST_PAUSE = 5  # steps


class Phase(Enum):
    """What the expert is doing."""

    APPROACH = "approach"
    CLOSE = "close"
    BRING = "bring"
    LEAVE = "leave"


@dataclass(frozen=True)
class Thing:
    """Something to take.

    Attributes:
        name: what it is.
        pose: of the tool when it takes it, in the world ``[4, 4]``; half a turn about its z is the same.
        width: of the gripper around it [m].
        stays: whether it stays where it is when it is let go.
        depth: how far behind something that the tool must not touch it lies [m].
    """

    name: str
    pose: Array
    width: float
    stays: bool
    depth: float = 0.0


class FixtureExpert(Expert):
    """Takes things and brings them; see ``Expert``.

    Attributes:
        open_width: of the gripper when it approaches something [m], where it opens that far.
        phase: what is being done.
    """

    mishaps: ClassVar[tuple[str, ...]] = ("miss", "slip")
    open_width: ClassVar[float] = 0.075

    def __init__(self, world: World, config: ScriptedConfig, random: np.random.Generator) -> None:
        super().__init__(world, config, random)
        embodiment = world.robot.embodiment
        self.phase = Phase.APPROACH
        self._largest_move = random.uniform(0.035, 0.055) * world.scene.scale
        self._largest_turn = min(LARGEST_TURN, largest_turn(embodiment))
        self._standoff = random.uniform(0.075, 0.1)
        self._open = min(self.open_width, embodiment.parallel_gripper.max_width)
        angle = random.uniform(-math.pi, math.pi)
        self._kick = 0.04 * np.array([-0.3, math.cos(angle), math.sin(angle)])
        self._steps_in_phase = self._pause = 0
        self._leaving = self._thing = self.thing()

    @abstractmethod
    def thing(self) -> Thing:
        """Returns what is to be in the hand now."""

    @abstractmethod
    def bring(self) -> Array:
        """Returns the tool's pose ``[4, 4]`` in the world to go to with the thing in the hand."""

    def act(self) -> Array:
        """See ``Expert``."""
        tool, width = self.world.robot.tcp_pose, self.world.robot.gripper_width
        thing = self.thing()
        self._thing = replace(thing, pose=self._same_way(thing.pose))
        following = self._next_phase(tool, width)
        self._steps_in_phase = 0 if following != self.phase else self._steps_in_phase + 1
        self.phase = following
        if self._pause == 0 and self.random.random() < PAUSE_RATE:
            self._pause = int(self.random.integers(2, LONGEST_PAUSE + 1))
        self._pause = max(self._pause - 1, 0)
        goal = tool if self._pause else self._goal(tool)
        turn = matrix_to_axis_angle(goal[:3, :3] @ tool[:3, :3].T)
        turn *= min(1.0, LARGEST_TURN / max(length(turn), 1e-9))
        rotation = matrix_to_axis_angle(axis_angle_to_matrix(turn) @ tool[:3, :3])
        holding = self.phase in (Phase.CLOSE, Phase.BRING)
        position = step_towards(tool[:3, 3], goal[:3, 3], self._largest_move)
        return np.concatenate([position, rotation, [0.0 if holding else self._open]])

    @property
    def near(self) -> bool:
        """See ``Expert``."""
        away = length(self.world.robot.tcp_pose[:3, 3] - self._thing.pose[:3, 3])
        return self.phase is not Phase.APPROACH or away < FINGERS + 0.02

    def mishappen(self, executed: Array) -> bool:
        """Misses a thing before it is taken, or lets go what stays where it is."""
        if self.mishap == "miss":
            if happening := self.phase is Phase.APPROACH and self.near:
                executed[:3] = self.world.robot.tcp_pose[:3, 3] + self._kick
        elif happening := self.phase is Phase.BRING and self._thing.stays:
            executed[6] = self._open
        return happening

    def _same_way(self, pose: Array) -> Array:
        """Returns the pose, or the one half a turn about its z away where that is the smaller turn."""
        if pose[:3, 0] @ self.world.robot.tcp_pose[:3, 0] >= 0.0:
            return pose
        return pose @ np.diag([-1.0, -1.0, 1.0, 1.0])

    def _next_phase(self, tool: Array, width: float) -> Phase:
        """Decides by what is true now, so that whatever went wrong is tried again."""
        phase, thing = self.phase, self._thing
        away = length(tool[:3, 3] - thing.pose[:3, 3])
        if phase in (Phase.CLOSE, Phase.BRING) and thing.name != self._leaving.name:
            return Phase.LEAVE
        if phase is Phase.LEAVE:
            clear = length(tool[:3, 3] - self._leaving.pose[:3, 3]) > self._standoff
            return Phase.APPROACH if clear else phase
        self._leaving = thing
        if phase is Phase.APPROACH:
            return Phase.CLOSE if away < AT_THING else phase
        empty = width < 0.6 * thing.width
        if phase is Phase.CLOSE and self._steps_in_phase >= 2:
            if away > LOST or empty:
                return Phase.APPROACH
            closed = width < thing.width + 0.004
            return Phase.BRING if closed or self._steps_in_phase >= CLOSING_STEPS else phase
        lost = away > LOST or empty or width > thing.width + 0.02
        return Phase.APPROACH if phase is Phase.BRING and lost else phase

    def _goal(self, tool: Array) -> Array:
        """Returns the tool's pose ``[4, 4]`` to go to."""
        if self.phase is Phase.APPROACH:
            return approach(tool, self._thing, self._standoff)
        if self.phase is Phase.BRING:
            return self.bring()
        if self.phase is Phase.LEAVE:
            letting_go = self.world.robot.gripper_width < self._leaving.width + 0.02
            back = 0.0 if letting_go else 2.0 * self._standoff
            return pose_matrix(tool[:3, 3] - back * tool[:3, 2], tool[:3, :3])
        return self._thing.pose


def approach(tool: Array, thing: Thing, standoff: float) -> Array:
    """Returns the pose ``[4, 4]`` on the way to a thing: before it as long as the tool is beside it.

    Args:
        tool: pose of the tool ``[4, 4]``.
        thing: where the tool is to go.
        standoff: how far before the thing the tool stays at most [m].
    """
    goal = thing.pose
    inward = goal[:3, 2]
    away = goal[:3, 3] - tool[:3, 3]
    before = float(away @ inward)
    beside = length(away - before * inward)
    turn = length(matrix_to_axis_angle(goal[:3, :3] @ tool[:3, :3].T))
    error = beside + 0.1 * max(turn - 0.1, 0.0)
    if before < FINGERS + thing.depth and error > 0.02:  # fingers beside the thing would push it: back first
        return pose_matrix(tool[:3, 3] - standoff * inward, tool[:3, :3])
    stay = funnel(error - 0.7 * AT_THING, standoff + thing.depth)
    return pose_matrix(goal[:3, 3] - stay * inward, goal[:3, :3])


def largest_turn(embodiment: Embodiment) -> float:
    """Returns how far a body can turn its tool about its axis in a step [rad]."""
    if embodiment.joints:
        return embodiment.joints[-1].velocity_limit / RATE_HZ
    return embodiment.flying_base.angular_velocity_limit / RATE_HZ
