"""A scripted expert for pick and place: reactive, varied like a person, and able to recover."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, cast

import numpy as np

from robopolicy_datasets.geometry import Array
from robopolicy_sim.experts.configs import ScriptedConfig
from robopolicy_sim.experts.expert import Expert, funnel, length, step_towards, tool_down, wrap
from robopolicy_sim.tasks.pick_place import CUBE_HALF_SIZE, PickPlaceScene
from robopolicy_sim.worlds.world import World

CLOSE = 0.008  # [m] that the tool may be beside the cube for a grasp, ...
SLACK_SHARE = 0.34  # ... or this much of the room between cube and finger, where a hand is large
LONGEST_CLOSING = 5  # steps after which whatever is between the fingers is lifted
MISS_BELOW = 0.09  # [m] height of the TCP at which a miss sets in
LARGEST_TURN = 0.25  # [rad] of the tool in a step
NEAR_HEIGHT = 0.07  # [m] below which the fingers may touch the cube


class Phase(Enum):
    """What the expert is doing."""

    APPROACH = "approach"
    CLOSE = "close"
    LIFT = "lift"
    CARRY = "carry"
    OPEN = "open"
    RETREAT = "retreat"


_MOVING = (Phase.APPROACH, Phase.CARRY, Phase.RETREAT)
_HOLDING = (Phase.CLOSE, Phase.LIFT, Phase.CARRY)


@dataclass(frozen=True)
class Style:
    """How one episode is done; differs from episode to episode.

    Attributes:
        approach_height: of the TCP above the table before going down [m].
        carry_height: of the TCP above the table with the cube [m].
        speed: largest move asked for in a step [m].
    """

    approach_height: float
    carry_height: float
    speed: float

    @classmethod
    def draw(cls, random: np.random.Generator, scale: float = 1.0) -> Style:
        """Draws a style at random; ``scale`` is the scene's: small arms do not look down from high up."""
        lower = 0.02 * (1.0 - scale)  # the cube does not shrink with the arm, which is soon stretched
        return cls(
            approach_height=scale * random.uniform(0.09, 0.14) - lower,
            carry_height=scale * random.uniform(0.09, 0.14) - lower,
            speed=scale * random.uniform(0.038, 0.06),
        )


@dataclass(frozen=True)
class View:
    """What the expert sees at one moment.

    Attributes:
        tcp: position of the tool center point (3) [m].
        yaw: of the tool, between its x axis and the world's, seen from above [rad].
        cube: position of the cube (3) [m].
        cube_yaw: of one of the cube's upright sides, in the world [rad].
        pad: position of the pad (3) [m].
        width: of the gripper [m].
    """

    tcp: Array
    yaw: float
    cube: Array
    cube_yaw: float
    pad: Array
    width: float

    @classmethod
    def of(cls, world: World) -> View:
        """Looks at the true state of the world."""
        robot, scene = world.robot, cast(PickPlaceScene, world.scene)
        tcp, cube = robot.tcp_pose, scene.cube_pose
        side = cube[:3, np.argmin(np.abs(cube[2, :3]))]
        yaw, cube_yaw = math.atan2(tcp[1, 0], tcp[0, 0]), math.atan2(side[1], side[0])
        return cls(tcp[:3, 3], yaw, cube[:3, 3], cube_yaw, scene.pad_position, robot.gripper_width)

    @property
    def beside_cube(self) -> float:
        """Horizontal distance of the tool center point from the cube's centre [m]."""
        return length(self.tcp[:2] - self.cube[:2])

    @property
    def beside_pad(self) -> float:
        """Horizontal distance of the tool center point from the pad's centre [m]."""
        return length(self.tcp[:2] - self.pad[:2])

    @property
    def holding(self) -> bool:
        """Whether the cube is between the fingers."""
        return length(self.tcp - self.cube) < 0.035


class PickPlaceExpert(Expert):
    """Chooses actions from the true state of the world; see ``Expert``."""

    mishaps: ClassVar[tuple[str, ...]] = ("miss", "slip")

    def __init__(self, world: World, config: ScriptedConfig, random: np.random.Generator) -> None:
        super().__init__(world, config, random)
        self.style = Style.draw(random, world.scene.scale)
        self._scale *= world.scene.scale  # errors are in proportion to the moves
        self.phase = Phase.APPROACH
        self._steps_in_phase = 0
        self._grasp_yaw = View.of(world).yaw
        self._open = world.robot.embodiment.parallel_gripper.max_width
        self._tolerance = max(CLOSE, SLACK_SHARE * (0.5 * self._open - CUBE_HALF_SIZE))
        angle = random.uniform(-np.pi, np.pi)
        self._kick = 0.05 * world.scene.scale * np.array([np.cos(angle), np.sin(angle), 0.2])

    def act(self) -> Array:
        """See ``Expert``."""
        view = View.of(self.world)
        # Of the four ways to grasp, the one nearest to the last choice: no dithering between two.
        self._grasp_yaw += wrap(view.cube_yaw - self._grasp_yaw, np.pi / 2)
        following = self._next_phase(view)
        self._steps_in_phase = 0 if following != self.phase else self._steps_in_phase + 1
        self.phase = following
        position = step_towards(view.tcp, self._goal(view), self.style.speed)
        aligning = self.phase is Phase.APPROACH
        turn = min(max(self._turn(view), -LARGEST_TURN), LARGEST_TURN) if aligning else 0.0
        width = 0.0 if self.phase in _HOLDING else self._open
        return np.concatenate([position, tool_down(view.yaw + turn), [width]])

    @property
    def near(self) -> bool:
        """See ``Expert``."""
        return self.phase not in _MOVING or self.world.robot.tcp_pose[2, 3] < NEAR_HEIGHT

    def mishappen(self, executed: Array) -> bool:
        """Misses the cube before it is grasped, or lets it slip on the way."""
        if self.mishap == "miss":
            low = self.world.robot.tcp_pose[2, 3] < MISS_BELOW
            if happening := self.phase is Phase.APPROACH and low:
                executed[:3] += self._kick
        elif happening := self.phase is Phase.CARRY:
            executed[6] = self._open
        return happening

    def _turn(self, view: View) -> float:
        """Returns how far the tool must turn for the grasp [rad]."""
        return wrap(self._grasp_yaw - view.yaw, 2 * np.pi)

    def _next_phase(self, view: View) -> Phase:
        """Decides by what is seen now, so that whatever went wrong is tried again."""
        phase = self.phase
        if phase in (Phase.LIFT, Phase.CARRY) and not view.holding:
            return Phase.APPROACH
        if (
            phase is Phase.APPROACH
            and view.beside_cube < self._tolerance
            and view.tcp[2] < CUBE_HALF_SIZE + 0.006
        ):
            return Phase.CLOSE
        if phase is Phase.CLOSE and self._steps_in_phase >= 2:
            if view.width < 1.5 * CUBE_HALF_SIZE or not view.holding:
                return Phase.APPROACH
            closed = view.width < 2.0 * CUBE_HALF_SIZE + 0.004
            return Phase.LIFT if closed or self._steps_in_phase >= LONGEST_CLOSING else phase
        if phase is Phase.LIFT and view.tcp[2] > 0.6 * self.style.carry_height:
            return Phase.CARRY
        if phase is Phase.CARRY and view.cube[2] < CUBE_HALF_SIZE + 0.004:
            return Phase.OPEN
        if phase is Phase.OPEN and view.width > 0.07:
            return Phase.RETREAT
        clear = view.tcp[2] > cast(PickPlaceScene, self.scene).clear_height
        missed_pad = length(view.cube[:2] - view.pad[:2]) > 0.025
        if phase is Phase.RETREAT and clear and missed_pad:
            return Phase.APPROACH
        return phase

    def _goal(self, view: View) -> Array:
        """Returns the TCP position ``[3]`` to go to [m]."""
        style, phase = self.style, self.phase
        if phase is Phase.APPROACH:
            error = view.beside_cube + 0.1 * max(abs(self._turn(view)) - 0.1, 0.0)
            height = CUBE_HALF_SIZE + funnel(error - self._tolerance, style.approach_height)
            # Fingers that are low beside the cube would push it: up first.
            low = view.tcp[2] < 2 * CUBE_HALF_SIZE + 0.02 and view.beside_cube > 0.007 + self._tolerance
            return np.array([*(view.tcp[:2] if low else view.cube[:2]), height])
        if phase is Phase.CLOSE:
            return np.array([*view.tcp[:2], CUBE_HALF_SIZE])
        if phase is Phase.LIFT:
            return np.array([*view.tcp[:2], style.carry_height])
        if phase is Phase.CARRY:
            resting = CUBE_HALF_SIZE + view.tcp[2] - view.cube[2] - 0.004
            return np.array([*view.pad[:2], resting + funnel(view.beside_pad - 0.012, style.carry_height)])
        if phase is Phase.OPEN:
            return view.tcp
        return np.array([*view.tcp[:2], style.approach_height + 0.03])
