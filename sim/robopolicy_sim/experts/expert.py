"""What all scripted experts share: they see the true state; what they ask for is executed with errors.

What is recorded is what the expert wants, seen from where the robot really is. What is executed differs by a
disturbance, so that the recorded states include errors together with the right answer to them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from robopolicy_datasets.geometry import Array, axis_angle_to_matrix, matrix_to_axis_angle
from robopolicy_sim.experts.configs import ScriptedConfig
from robopolicy_sim.tasks.manipulation import POSE_WIDTH
from robopolicy_sim.worlds.world import World

NOISE_MOVING = 0.012  # [m] standard deviation of the disturbance, each axis
NOISE_NEAR = 0.006  # [m]
NOISE_TURN = 0.05  # [rad] about the tool's axis
NOISE_MEMORY = 0.6  # correlation of one step's disturbance with the next
LONGEST_MISHAP = 3  # steps


class Expert(ABC):
    """Demonstrates a task. It decides by what is true now, so it takes up again from any state.

    Attributes:
        noise_near: standard deviation of the disturbance near the objects, each axis [m].
        noise_turn: standard deviation of the disturbance about the tool's axis [rad].
        mishaps: what can be made to go wrong once in an episode, by name; see ``mishappen``.
        world: the task's world, which has just been reset; true states are read from it.
        scene: its scene.
        random: decides everything that varies.
        mishap: what will go wrong; empty where nothing will.

    Args:
        world: see above.
        config: of the experts.
        random: see above.
    """

    noise_near: ClassVar[float] = NOISE_NEAR
    noise_turn: ClassVar[float] = NOISE_TURN
    mishaps: ClassVar[tuple[str, ...]] = ()

    def __init__(self, world: World, config: ScriptedConfig, random: np.random.Generator) -> None:
        self.world, self.random = world, random
        self.scene: Any = world.scene
        going_wrong = bool(self.mishaps) and random.random() < config.recovery_rate
        self.mishap = str(random.choice(self.mishaps)) if going_wrong else ""
        self._scale = config.disturbance
        self._noise = np.zeros((len(world.robots), 4))
        self._mishap_steps = 0

    @abstractmethod
    def act(self) -> Array:
        """Returns the action ``[7 * robots]`` for now: TCP position [m], axis-angle [rad], width [m]."""

    @property
    @abstractmethod
    def near(self) -> bool:
        """Whether a tool may touch something, so that large errors would be no human's."""

    def mishappen(self, executed: Array) -> bool:
        """Spoils the action to be executed where the time for ``mishap`` has come; returns whether it has."""
        return False

    def disturbed(self, action: Array) -> Array:
        """Returns the action to execute instead of ``action``."""
        fresh = math.sqrt(1.0 - NOISE_MEMORY**2) * self.random.standard_normal(self._noise.shape)
        self._noise = NOISE_MEMORY * self._noise + fresh
        executed = action.copy()
        position_scale = self._scale * (self.noise_near if self.near else NOISE_MOVING)
        commands = executed.reshape(-1, POSE_WIDTH)
        for robot, command, noise in zip(self.world.robots, commands, self._noise, strict=True):
            command[:3] += robot.pace * position_scale * noise[:3]
            if self._scale:
                turn = axis_angle_to_matrix(np.array([0.0, 0.0, self._scale * self.noise_turn * noise[3]]))
                command[3:6] = matrix_to_axis_angle(axis_angle_to_matrix(command[3:6]) @ turn)
        happening = bool(self.mishap) and self.mishappen(executed)
        self._mishap_steps += happening
        if self._mishap_steps == LONGEST_MISHAP or (self._mishap_steps > 0 and not happening):
            self.mishap = ""
        return executed


def funnel(error: float, height: float) -> float:
    """Returns how far before its goal the tool stays while it is beside it [m].

    The distance follows from the error alone: a rule with a threshold would teach imitators to hover at it.
    """
    return min(max(4.0 * error, 0.0), height)


def step_towards(position: Array, goal: Array, largest: float) -> Array:
    """Returns the point ``[3]`` on the way to ``goal`` that is at most ``largest`` [m] away."""
    move = goal - position
    return position + move * min(1.0, largest / max(length(move), 1e-9))


def tool_down(yaw: float) -> Array:
    """Returns the orientation (axis-angle, 3) [rad] of a tool that points down, turned by ``yaw`` [rad]."""
    # A half turn about the horizontal axis at yaw / 2 maps z to -z and x to the direction at yaw.
    return np.pi * np.array([np.cos(0.5 * yaw), np.sin(0.5 * yaw), 0.0])


def length(vector: Array) -> float:
    """``np.linalg.norm`` of one short vector, faster."""
    return math.sqrt(float(vector @ vector))


def wrap(angle: float, period: float) -> float:
    """Returns the angle that differs by whole periods and lies in ``[-period / 2, period / 2)`` [rad]."""
    return (angle + 0.5 * period) % period - 0.5 * period
