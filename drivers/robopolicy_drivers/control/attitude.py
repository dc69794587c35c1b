"""Position and heading of a multirotor whose rotors all push along its own z axis: it tilts to move sideways.

The geometric controller of Lee, Leok, McClamroch, "Geometric tracking control of a quadrotor UAV on SE(3)"
(2010), equations 12 to 16, without the feed-forward of the wanted attitude's own motion, and with limits of
speed and tilt.
"""

from __future__ import annotations

import numpy as np

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.geometry import Array
from robopolicy_drivers.control.allocation import Allocated, Allocation
from robopolicy_drivers.control.flying_body import GRAVITY, BaseState, flying_base_of
from robopolicy_drivers.control.rotation_group import cross
from robopolicy_drivers.control.tracking import rotation_error
from robopolicy_drivers.embodiments import Embodiment

_LEAST_LIFT = 0.3  # of the weight, that the wanted force keeps: falling freely it could not turn
_TINY = 1e-9


class GeometricController:
    """See the module text. Batched over any leading axes; it keeps no state.

    Args:
        embodiment: a flying base that carries nothing.
        position_rate: natural frequency of the position's error [rad/s].
        attitude_rate: that of the attitude's, several times as fast, and slower than the rotors [rad/s].
        damping: ratio of both.

    Raises:
        ConfigError: the base stands or carries something, or a number is not above 0.
    """

    def __init__(
        self,
        embodiment: Embodiment,
        *,
        position_rate: float = 2.0,
        attitude_rate: float = 12.0,
        damping: float = 0.8,
    ) -> None:
        base = flying_base_of(embodiment)
        if embodiment.joints or embodiment.gripper:
            raise ConfigError(
                f"The embodiment '{embodiment.name}' carries an arm or a gripper; GeometricController takes "
                "a base that carries nothing. WholeBodyMpc flies one with an arm."
            )
        if not min(position_rate, attitude_rate, damping) > 0:
            raise ConfigError(
                f"GeometricController got position_rate={position_rate}, attitude_rate={attitude_rate}, "
                f"damping={damping}; each must be above 0."
            )
        self._mass, self._inertia = base.mass, np.array(base.inertia)
        self._position_gains = position_rate**2, 2.0 * damping * position_rate
        self._attitude_gains = attitude_rate**2, 2.0 * damping * attitude_rate
        self._furthest = base.velocity_limit * 2.0 * damping / position_rate
        self._steepest = np.tan(base.tilt_limit)
        self._allocation = Allocation(base)

    def command(
        self,
        position: Array,
        heading: Array,
        state: BaseState,
        *,
        velocity: Array | float = 0.0,
        acceleration: Array | float = 0.0,
    ) -> Allocated:
        """Returns the thrusts to command, and what the rotors cannot give of the wanted wrench.

        Args:
            position: where to be ``[..., 3]`` [m].
            heading: where the base's x axis is to point, about the world's z axis ``[...]`` [rad].
            state: of the base.
            velocity: to have there ``[..., 3]`` [m/s].
            acceleration: to have there ``[..., 3]`` [m/s^2].
        """
        return self.follow(
            *self.aim(position, heading, state, velocity=velocity, acceleration=acceleration), state
        )

    def aim(
        self,
        position: Array,
        heading: Array,
        state: BaseState,
        *,
        velocity: Array | float = 0.0,
        acceleration: Array | float = 0.0,
    ) -> tuple[Array, Array]:
        """Returns the attitude ``[..., 3, 3]`` to turn to, and the force of the rotors to give then.

        The force is that of each kilogram, along the present z axis of the base ``[...]`` [m/s^2]. For the
        arguments see ``command``.
        """
        stiffness, damping = self._position_gains
        away = _at_most(state.position - position, self._furthest)
        wanted = acceleration - GRAVITY - stiffness * away - damping * (state.velocity - velocity)
        lift = np.maximum(wanted[..., 2:], -_LEAST_LIFT * GRAVITY[2])
        force = np.concatenate([_at_most(wanted[..., :2], self._steepest * lift), lift], axis=-1)
        return _attitude(force, np.asarray(heading)), np.sum(force * state.rotation[..., 2], axis=-1)

    def follow(self, attitude: Array, force: Array | float, state: BaseState) -> Allocated:
        """Returns the thrusts that turn to an attitude and push.

        Args:
            attitude: from the base's frame to the world ``[..., 3, 3]``.
            force: of all rotors, for each kilogram, along the base's z axis ``[...]`` [m/s^2].
            state: of the base.
        """
        stiffness, damping = self._attitude_gains
        spin = state.angular_velocity
        turning = -stiffness * rotation_error(attitude, state.rotation) - damping * spin
        torque = self._inertia * turning + cross(spin, self._inertia * spin)
        wrench = np.zeros((*torque.shape[:-1], 6))
        wrench[..., 2] = self._mass * np.asarray(force)
        wrench[..., 3:] = torque
        return self._allocation.allocate(wrench)


def _at_most(vector: Array, length: Array | float) -> Array:
    """Vectors, shortened where they are longer."""
    norm = np.linalg.norm(vector, axis=-1, keepdims=True)
    return np.asarray(vector * np.minimum(1.0, length / np.maximum(norm, _TINY)))


def _attitude(force: Array, heading: Array) -> Array:
    """The rotation ``[..., 3, 3]`` whose z axis is along the force and whose x axis has the heading."""
    up = force / np.linalg.norm(force, axis=-1, keepdims=True)
    ahead = np.stack([np.cos(heading), np.sin(heading), np.zeros_like(heading)], axis=-1)
    left = cross(up, np.broadcast_to(ahead, up.shape))
    left = left / np.linalg.norm(left, axis=-1, keepdims=True)
    return np.stack([cross(left, up), left, up], axis=-1)
