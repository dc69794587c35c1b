"""A flying base with all that it carries as one rigid body that its rotors move: steps and derivatives.

The arm is held at its present joint positions: its weight and inertia count, what its motion pushes back does
not. States are batched over any leading axes; forces are held over a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.geometry import Array
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.control.mass_matrix import MassMatrix
from robopolicy_drivers.control.rotation_group import (
    cross,
    cross_matrix,
    exponential,
    right_jacobian,
    rotation_vector,
)
from robopolicy_drivers.embodiments import Embodiment, FlyingBase

GRAVITY = np.array([0.0, 0.0, -9.81])  # [m/s^2]
STATE_SIZE = 12  # of a change of state: position, velocity, turn in the base's frame, angular velocity


def flying_base_of(embodiment: Embodiment) -> FlyingBase:
    """Returns an embodiment's flying base.

    Raises:
        ConfigError: its base stands.
    """
    if embodiment.base is None:
        raise ConfigError(f"The embodiment '{embodiment.name}' has no flying base; give one that flies.")
    return embodiment.base


@dataclass(frozen=True)
class BaseState:
    """Where flying bases are and how they move.

    Attributes:
        position: in the world ``[..., 3]`` [m].
        rotation: from the base's frame to the world ``[..., 3, 3]``.
        velocity: in the world ``[..., 3]`` [m/s].
        angular_velocity: in the base's frame ``[..., 3]`` [rad/s].
    """

    position: Array
    rotation: Array
    velocity: Array
    angular_velocity: Array

    @classmethod
    def at_rest(cls, position: Array) -> BaseState:
        """Returns level states that stand at a position ``[..., 3]`` [m]."""
        position = np.asarray(position, dtype=np.float64)
        zero = np.zeros_like(position)
        return cls(position, np.broadcast_to(np.eye(3), (*position.shape, 3)), zero, zero)

    def change_from(self, other: BaseState) -> Array:
        """Returns ``[..., 12]``: position, velocity, turn (in the other's frame) and angular velocity."""
        turn = rotation_vector(np.swapaxes(other.rotation, -1, -2) @ self.rotation)
        parts = (self.position - other.position, self.velocity - other.velocity, turn)
        return np.concatenate([*parts, self.angular_velocity - other.angular_velocity], axis=-1)


class FlyingBody:
    """See the module text.

    Args:
        kinematics: of a robot with a flying base.
        positions: where its joints are held ``[..., J]`` [rad].

    Attributes:
        hover_thrusts: that carry it level and at rest, of all such the least ``[..., R]`` [N].

    Raises:
        ConfigError: the robot's base stands.
    """

    def __init__(self, kinematics: Kinematics, positions: Array) -> None:
        base = flying_base_of(kinematics.embodiment)
        inertia = MassMatrix(kinematics)(positions)[..., :6, :6]
        self._inverse = np.linalg.inv(inertia)
        self._of_thrusts = self._inverse @ base.wrench_matrix
        self._turning = inertia[..., 3:, 3:]
        lever = inertia[..., 3:, :3]  # mass times the cross matrix of the center of mass
        self._moment = np.stack([lever[..., 2, 1], lever[..., 0, 2], lever[..., 1, 0]], axis=-1)
        weight = -(inertia[..., :, :3] @ GRAVITY)
        self.hover_thrusts = weight @ np.linalg.pinv(base.wrench_matrix).T

    def accelerations(self, angular_velocity: Array, thrusts: Array) -> Array:
        """Returns the acceleration without gravity, and the angular one, in the base's frame ``[..., 6]``.

        Args:
            angular_velocity: in the base's frame ``[..., 3]`` [rad/s].
            thrusts: of the rotors ``[..., R]`` [N].
        """
        spin = cross(angular_velocity, self._moment), (self._turning @ angular_velocity[..., None])[..., 0]
        resistance = np.concatenate([cross(angular_velocity, part) for part in spin], axis=-1)
        push = self._of_thrusts @ thrusts[..., None] - self._inverse @ resistance[..., None]
        return np.asarray(push[..., 0])

    def step(self, state: BaseState, thrusts: Array, seconds: float) -> BaseState:
        """Returns the state after a time with these thrusts ``[..., R]`` [N]; exact to second order in it."""
        push = self.accelerations(state.angular_velocity, thrusts)
        acceleration = (state.rotation @ push[..., :3, None])[..., 0] + GRAVITY
        turn = seconds * state.angular_velocity + 0.5 * seconds**2 * push[..., 3:]
        return BaseState(
            state.position + seconds * state.velocity + 0.5 * seconds**2 * acceleration,
            state.rotation @ exponential(turn),
            state.velocity + seconds * acceleration,
            state.angular_velocity + seconds * push[..., 3:],
        )

    def derivatives(self, state: BaseState, thrusts: Array, seconds: float) -> tuple[Array, Array]:
        """Returns the derivatives of ``step`` for changes of the state and of the thrusts.

        A change of state is ``[..., 12]``: position, velocity, turn in the base's frame, angular velocity.

        Returns:
            Matrices ``[..., 12, 12]`` and ``[..., 12, R]``.
        """
        velocity = state.angular_velocity
        push = self.accelerations(velocity, thrusts)
        spinning, lever = cross_matrix(velocity), cross_matrix(self._moment)
        momentum = (self._turning @ velocity[..., None])[..., 0]
        by_spin = self._inverse @ np.concatenate(
            [
                cross_matrix(cross(velocity, self._moment)) + spinning @ lever,
                cross_matrix(momentum) - spinning @ self._turning,
            ],
            axis=-2,
        )
        turn = seconds * velocity + 0.5 * seconds**2 * push[..., 3:]
        turning = right_jacobian(turn)
        leading = np.broadcast_shapes(velocity.shape[:-1], self._inverse.shape[:-2])
        of_state = np.zeros((*leading, STATE_SIZE, STATE_SIZE))
        of_state[...] = np.eye(STATE_SIZE)
        of_state[..., :3, 3:6] = seconds * np.eye(3)
        of_state[..., 3:6, 6:9] = -seconds * (state.rotation @ cross_matrix(push[..., :3]))
        of_state[..., 3:6, 9:] = seconds * (state.rotation @ by_spin[..., :3, :])
        of_state[..., :3, 6:] = 0.5 * seconds * of_state[..., 3:6, 6:]
        of_state[..., 6:9, 6:9] = np.swapaxes(exponential(turn), -1, -2)
        of_state[..., 6:9, 9:] = turning @ (seconds * np.eye(3) + 0.5 * seconds**2 * by_spin[..., 3:, :])
        of_state[..., 9:, 9:] += seconds * by_spin[..., 3:, :]
        of_thrusts = np.zeros((*leading, STATE_SIZE, thrusts.shape[-1]))
        of_thrusts[..., 3:6, :] = seconds * (state.rotation @ self._of_thrusts[..., :3, :])
        of_thrusts[..., :3, :] = 0.5 * seconds * of_thrusts[..., 3:6, :]
        of_thrusts[..., 6:9, :] = 0.5 * seconds**2 * (turning @ self._of_thrusts[..., 3:, :])
        of_thrusts[..., 9:, :] = seconds * self._of_thrusts[..., 3:, :]
        return of_state, of_thrusts
