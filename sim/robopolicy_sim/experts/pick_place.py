"""A scripted expert for pick and place: reactive, varied like a person, and able to recover.

What is recorded is what the expert wants, seen from where the arm really is. What is executed differs by
a disturbance, so that the recorded states include errors together with the right answer to them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError, SimulationError
from robopolicy_datasets.geometry import Array
from robopolicy_datasets.store import EpisodeInfo
from robopolicy_sim.experts.configs import ScriptedConfig
from robopolicy_sim.tasks.configs import PickPlaceConfig
from robopolicy_sim.tasks.pick_place import PickPlaceEnv
from robopolicy_sim.worlds.tabletop import TabletopWorld
from robopolicy_sim.worlds.tabletop_model import CUBE_HALF_SIZE

TASK_TEXT = "put the cube on the pad"

_NOISE_MOVING = 0.012  # [m] standard deviation of the disturbance, each axis
_NOISE_NEAR = 0.006  # [m]
MOST_FAILURES = 50  # demonstrations one after the other
LONGEST_CLOSING = 5  # steps after which whatever is between the fingers is lifted
LONGEST_MISHAP = 3  # steps
MISS_BELOW = 0.09  # [m] height of the TCP at which a miss sets in
LARGEST_TURN = 0.25  # [rad] of the tool in a step
_NEAR_HEIGHT = 0.07  # [m] below which the fingers may touch the cube
_NOISE_YAW = 0.05  # [rad]
_NOISE_MEMORY = 0.6  # correlation of one step's disturbance with the next

_log = logging.getLogger(__name__)


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
        mishap: ``"miss"``, ``"slip"`` or ``""``: what goes wrong once.
    """

    approach_height: float
    carry_height: float
    speed: float
    mishap: str

    @classmethod
    def draw(cls, random: np.random.Generator, config: ScriptedConfig) -> Style:
        """Draws a style at random."""
        mishap = str(random.choice(["miss", "slip"])) if random.random() < config.recovery_rate else ""
        return cls(
            approach_height=random.uniform(0.09, 0.14),
            carry_height=random.uniform(0.09, 0.14),
            speed=random.uniform(0.038, 0.06),
            mishap=mishap,
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
    def of(cls, world: TabletopWorld) -> View:
        """Looks at the world's true state."""
        tcp, cube = world.tcp_pose, world.cube_pose
        side = cube[:3, np.argmin(np.abs(cube[2, :3]))]
        yaw, cube_yaw = math.atan2(tcp[1, 0], tcp[0, 0]), math.atan2(side[1], side[0])
        return cls(tcp[:3, 3], yaw, cube[:3, 3], cube_yaw, world.pad_position, world.gripper_width)

    @property
    def beside_cube(self) -> float:
        """Horizontal distance of the tool center point from the cube's centre [m]."""
        return _length(self.tcp[:2] - self.cube[:2])

    @property
    def beside_pad(self) -> float:
        """Horizontal distance of the tool center point from the pad's centre [m]."""
        return _length(self.tcp[:2] - self.pad[:2])

    @property
    def holding(self) -> bool:
        """Whether the cube is between the fingers."""
        return _length(self.tcp - self.cube) < 0.035


class PickPlaceExpert:
    """Chooses actions from the true state of the world.

    Args:
        world: that the expert looks at.
        style: of this episode.
    """

    def __init__(self, world: TabletopWorld, style: Style) -> None:
        self.world = world
        self.style = style
        self.phase = Phase.APPROACH
        self._steps_in_phase = 0
        self._grasp_yaw = View.of(world).yaw

    def act(self) -> Array:
        """Returns the action ``[7]`` for now: TCP position [m], axis-angle [rad], gripper width [m]."""
        view = View.of(self.world)
        # Of the four ways to grasp, the one nearest to the last choice: no dithering between two.
        self._grasp_yaw += _wrap(view.cube_yaw - self._grasp_yaw, np.pi / 2)
        following = self._next_phase(view)
        self._steps_in_phase = 0 if following != self.phase else self._steps_in_phase + 1
        self.phase = following
        move = self._goal(view) - view.tcp
        move *= min(1.0, self.style.speed / max(_length(move), 1e-9))
        aligning = self.phase is Phase.APPROACH
        turn = min(max(self._turn(view), -LARGEST_TURN), LARGEST_TURN) if aligning else 0.0
        width = 0.0 if self.phase in _HOLDING else self.world.embodiment.parallel_gripper.max_width
        return np.concatenate([view.tcp + move, tool_down(view.yaw + turn), [width]])

    def _turn(self, view: View) -> float:
        """Returns how far the tool must turn for the grasp [rad]."""
        return _wrap(self._grasp_yaw - view.yaw, 2 * np.pi)

    def _next_phase(self, view: View) -> Phase:
        """Decides by what is seen now, so that whatever went wrong is tried again."""
        phase = self.phase
        if phase in (Phase.LIFT, Phase.CARRY) and not view.holding:
            return Phase.APPROACH
        if phase is Phase.APPROACH and view.beside_cube < 0.008 and view.tcp[2] < CUBE_HALF_SIZE + 0.006:
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
        missed_pad = _length(view.cube[:2] - view.pad[:2]) > 0.025
        if phase is Phase.RETREAT and view.tcp[2] > _NEAR_HEIGHT and missed_pad:
            return Phase.APPROACH
        return phase

    def _goal(self, view: View) -> Array:
        """Returns the TCP position ``[3]`` to go to [m]."""
        style, phase = self.style, self.phase
        if phase is Phase.APPROACH:
            error = view.beside_cube + 0.1 * max(abs(self._turn(view)) - 0.1, 0.0)
            height = CUBE_HALF_SIZE + _funnel(error - 0.008, style.approach_height)
            # Fingers that are low beside the cube would push it: up first.
            low = view.tcp[2] < 2 * CUBE_HALF_SIZE + 0.02 and view.beside_cube > 0.015
            return np.array([*(view.tcp[:2] if low else view.cube[:2]), height])
        if phase is Phase.CLOSE:
            return np.array([*view.tcp[:2], CUBE_HALF_SIZE])
        if phase is Phase.LIFT:
            return np.array([*view.tcp[:2], style.carry_height])
        if phase is Phase.CARRY:
            resting = CUBE_HALF_SIZE + view.tcp[2] - view.cube[2] - 0.004
            return np.array([*view.pad[:2], resting + _funnel(view.beside_pad - 0.012, style.carry_height)])
        if phase is Phase.OPEN:
            return view.tcp
        return np.array([*view.tcp[:2], style.approach_height + 0.03])


class Disturbance:
    """What makes executed actions differ from the recorded ones.

    Args:
        random: source of randomness.
        scale: ``ScriptedConfig.disturbance``.
        mishap: ``Style.mishap``.
    """

    def __init__(self, random: np.random.Generator, scale: float, mishap: str) -> None:
        self._random = random
        self._scale = scale
        self._mishap = mishap
        self._noise = np.zeros(4)
        angle = random.uniform(-np.pi, np.pi)
        self._kick = 0.05 * np.array([np.cos(angle), np.sin(angle), 0.2])
        self._mishap_steps = 0

    def apply(self, action: Array, expert: PickPlaceExpert) -> Array:
        """Returns the action to execute ``[7]`` instead of ``action``."""
        fresh = np.sqrt(1.0 - _NOISE_MEMORY**2) * self._random.standard_normal(4)
        self._noise = _NOISE_MEMORY * self._noise + fresh
        near = expert.phase not in _MOVING or expert.world.tcp_pose[2, 3] < _NEAR_HEIGHT
        position_scale = _NOISE_NEAR if near else _NOISE_MOVING
        executed = action.copy()
        executed[:3] += self._scale * position_scale * self._noise[:3]
        yaw = _yaw_of_axis_angle(action[3:6]) + self._scale * _NOISE_YAW * self._noise[3]
        executed[3:6] = tool_down(yaw)
        return self._mishappen(executed, expert)

    def _mishappen(self, executed: Array, expert: PickPlaceExpert) -> Array:
        missing = self._mishap == "miss" and expert.phase is Phase.APPROACH
        missing = missing and expert.world.tcp_pose[2, 3] < MISS_BELOW
        slipping = self._mishap == "slip" and expert.phase is Phase.CARRY
        if missing:
            executed[:3] += self._kick
        elif slipping:
            executed[6] = expert.world.embodiment.parallel_gripper.max_width
        self._mishap_steps += missing or slipping
        if self._mishap_steps == LONGEST_MISHAP or (self._mishap_steps > 0 and not (missing or slipping)):
            self._mishap = ""
        return executed


def collect_episode(
    env: PickPlaceEnv, config: ScriptedConfig, random: np.random.Generator
) -> tuple[dict[str, NDArray[Any]], EpisodeInfo]:
    """Demonstrates one episode.

    Args:
        env: is reset with a seed from ``random``.
        config: of the expert.
        random: decides everything that varies.

    Returns:
        The data, ``[T, ...]`` for every key of the environment's Spec, and what is known of the episode.
    """
    observation, _ = env.reset(seed=int(random.integers(2**31)))
    style = Style.draw(random, config)
    expert = PickPlaceExpert(env.world, style)
    disturbance = Disturbance(random, config.disturbance, style.mishap)
    rows: dict[str, list[NDArray[Any]]] = {key: [] for key in env.data_spec.keys()}  # noqa: SIM118 (Spec is no dict)
    over, success = False, False
    while not over:
        action = expert.act()
        for key, value in observation.items():
            rows[key].append(value)
        rows["action"].append(action.astype(np.float32))
        executed = disturbance.apply(action, expert)
        observation, _, terminated, truncated, info = env.step(executed)
        success = info["success"]
        over = terminated or truncated
    data = {key: np.stack(values) for key, values in rows.items()}
    embodiment = env.world.embodiment.name
    return data, EpisodeInfo(task=TASK_TEXT, success=success, operator="scripted", embodiment=embodiment)


def collect(
    config: ScriptedConfig, task_config: PickPlaceConfig, seeds: Iterable[int]
) -> Iterator[tuple[dict[str, NDArray[Any]], EpisodeInfo]]:
    """Demonstrates one episode a seed, on and on as long as ``seeds`` does; failed ones are left out.

    Args:
        config: of the expert.
        task_config: of the task.
        seeds: one an episode; equal seeds give equal episodes.

    Yields:
        What ``collect_episode`` returns.

    Raises:
        ConfigError: a setting is out of range.
        SimulationError: the expert keeps failing.
    """
    if config.disturbance < 0 or not 0 <= config.recovery_rate <= 1:
        raise ConfigError(
            f"The scripted expert got disturbance={config.disturbance} and "
            f"recovery_rate={config.recovery_rate}; "
            "give a disturbance of at least 0 and a recovery_rate from 0 to 1."
        )
    env = PickPlaceEnv(task_config)
    failures = 0
    for seed in seeds:
        data, info = collect_episode(env, config, np.random.default_rng(seed))
        failures = 0 if info.success else failures + 1
        if info.success:
            yield data, info
        elif failures < MOST_FAILURES:
            _log.info("The demonstration with seed %d failed and is left out.", seed)
        else:
            raise SimulationError(
                f"{failures} demonstrations failed one after the other (the last with seed {seed}), with "
                f"task.max_steps={task_config.max_steps} and teleop.disturbance={config.disturbance}. The "
                "expert needs about 40 steps and a disturbance of about 1."
            )


def _funnel(error: float, height: float) -> float:
    """Returns how far above its goal the tool stays while it is beside it [m].

    Height follows from the error alone: a rule with a threshold would teach imitators to hover at it.
    """
    return min(max(4.0 * error, 0.0), height)


def tool_down(yaw: float) -> Array:
    """Returns the orientation (axis-angle, 3) [rad] of a tool that points down, turned by ``yaw`` [rad]."""
    # A half turn about the horizontal axis at yaw / 2 maps z to -z and x to the direction at yaw.
    return np.pi * np.array([np.cos(0.5 * yaw), np.sin(0.5 * yaw), 0.0])


def _yaw_of_axis_angle(axis_angle: Array) -> float:
    """Inverts ``tool_down`` [rad]."""
    return 2.0 * float(np.arctan2(axis_angle[1], axis_angle[0]))


def _length(vector: Array) -> float:
    """``np.linalg.norm`` of one short vector, faster."""
    return math.sqrt(float(vector @ vector))


def _wrap(angle: float, period: float) -> float:
    """Returns the angle that differs by whole periods and lies in ``[-period / 2, period / 2)`` [rad]."""
    return (angle + 0.5 * period) % period - 0.5 * period
