"""A multirotor's body in MuJoCo on flat ground, and the set points that its flight controllers follow."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from robopolicy_datasets.geometry import Array, quaternion_to_matrix
from robopolicy_drivers.control.attitude import GeometricController
from robopolicy_drivers.control.flying_body import BaseState
from robopolicy_drivers.embodiments import Embodiment
from robopolicy_sim.rendering import import_mujoco
from robopolicy_sim.worlds.arm_model import add_robot
from robopolicy_sim.worlds.mjcf import add, add_geom, section
from robopolicy_sim.worlds.scenery import add_appearance

TIMESTEP = 0.004  # [s]
_HEIGHT = 0.06  # [m] of the base's origin above the ground that it stands on
_SKID = 0.12  # [m] half the width of what it stands on
_NEAR = 0.01  # [m]
_SLOW = 0.1  # [m/s]


class SetPoint(Protocol):
    """What a flight controller is to do; in the world (east, north, up)."""

    def thrusts(self, controller: GeometricController, state: BaseState) -> Array:
        """Returns the rotors' thrusts ``[R]`` [N]."""


@dataclass(frozen=True)
class PositionSetPoint:
    """To be somewhere.

    Attributes:
        position: (3) [m].
        heading: of the base's x axis [rad].
        velocity: to have there (3) [m/s].
    """

    position: Array
    heading: float
    velocity: Array | float = 0.0

    def thrusts(self, controller: GeometricController, state: BaseState) -> Array:
        """See ``SetPoint``."""
        return controller.command(
            self.position, np.array(self.heading), state, velocity=self.velocity
        ).thrusts


@dataclass(frozen=True)
class VelocitySetPoint:
    """To move at a velocity (3) [m/s], with a heading [rad]."""

    velocity: Array
    heading: float

    def thrusts(self, controller: GeometricController, state: BaseState) -> Array:
        """See ``SetPoint``."""
        return controller.command(
            state.position, np.array(self.heading), state, velocity=self.velocity
        ).thrusts


@dataclass(frozen=True)
class AttitudeSetPoint:
    """To turn to an attitude ``[3, 3]`` and push with a share of the largest thrust."""

    attitude: Array
    share: float
    largest_force: float

    def thrusts(self, controller: GeometricController, state: BaseState) -> Array:
        """See ``SetPoint``."""
        return controller.follow(self.attitude, self.share * self.largest_force, state).thrusts


class SimulatedFlight:
    """The body. It begins standing at the origin, heading east.

    Args:
        embodiment: a multirotor that carries nothing.

    Attributes:
        controller: of position and attitude.
        largest_force: of all rotors, for each kilogram [m/s^2].
    """

    def __init__(self, embodiment: Embodiment) -> None:
        base = embodiment.flying_base
        self.controller = GeometricController(embodiment)
        self.largest_force = float(base.thrust_limits.sum()) / base.mass
        self._mujoco = import_mujoco()
        self._model = self._mujoco.MjModel.from_xml_string(_xml(embodiment))
        self._data = self._mujoco.MjData(self._model)
        self.put(np.zeros(3))

    @property
    def state(self) -> BaseState:
        """Where the base is and how it moves."""
        position, quaternion = self._data.qpos[:3].copy(), self._data.qpos[3:7]
        twist = self._data.qvel.copy()
        return BaseState(position, quaternion_to_matrix(quaternion), twist[:3], twist[3:])

    @property
    def standing(self) -> bool:
        """Whether it rests on the ground."""
        state = self.state
        return bool(state.position[2] < _NEAR and np.linalg.norm(state.velocity) < _SLOW)

    def put(self, position: Array) -> None:
        """Puts it level and at rest at a position (3) [m], its rotors carrying it."""
        self._mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[:7] = (*position, 1.0, 0.0, 0.0, 0.0)
        self._data.act[:] = 9.81 / self.largest_force * self._model.actuator_ctrlrange[:, 1]

    def advance(self, set_point: SetPoint | None, ticks: int = 1) -> None:
        """Flies for some ``TIMESTEP``; without a set point the rotors rest."""
        for _ in range(ticks):
            self._data.ctrl[:] = 0.0 if set_point is None else set_point.thrusts(self.controller, self.state)
            self._mujoco.mj_step(self._model, self._data)


def _xml(embodiment: Embodiment) -> str:
    root = ElementTree.Element("mujoco", model=embodiment.name)
    add(root, "compiler", angle="radian", autolimits="true")
    add(root, "option", timestep=TIMESTEP, integrator="implicitfast")
    add_appearance(root)
    add_robot(root, embodiment)
    world = section(root, "worldbody")
    add_geom(world, "plane", solid=True, size=(50, 50, 0.1), pos=(0, 0, -_HEIGHT))
    (base,) = (body for body in world.iter("body") if body.get("name") == "base")
    add_geom(base, "box", solid=True, size=(_SKID, _SKID, 0.5 * _HEIGHT), pos=(0, 0, -0.5 * _HEIGHT))
    return ElementTree.tostring(root, encoding="unicode")
