"""The three ways to tell an autopilot where the vehicle is to be, from the same commanded pose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from robopolicy_datasets.geometry import Array, matrix_to_quaternion
from robopolicy_drivers.aerial.configs import MavlinkConfig
from robopolicy_drivers.aerial.frames import heading_of, swap_heading, swap_rotation, swap_world
from robopolicy_drivers.aerial.link import MavlinkLink
from robopolicy_drivers.control.attitude import GeometricController
from robopolicy_drivers.control.flying_body import GRAVITY, BaseState
from robopolicy_drivers.embodiments import Embodiment

# Bits of POSITION_TARGET_TYPEMASK: what does not count.
_POSITION, _ACCELERATION, _YAW_RATE = 0b111, 0b111 << 6, 1 << 11
_POSITION_RATE = 1.5  # [1/s] with which a velocity makes up for a distance


@dataclass(frozen=True)
class Reference:
    """Where the vehicle is commanded to be, in the world (east, north, up).

    Attributes:
        time_ms: on our clock [ms].
        pose: level ``[4, 4]``.
        velocity: (3) [m/s].
    """

    time_ms: int
    pose: Array
    velocity: Array

    @property
    def yaw(self) -> float:
        """From north to the east [rad]."""
        return swap_heading(heading_of(self.pose))


class SetPoints(Protocol):
    """Sends one kind of set point."""

    def send(self, reference: Reference) -> None:
        """Sends the set point of a tick."""


class PositionSetPoints:
    """Positions with velocity and heading; the autopilot makes up for the distance. See ``SetPoints``."""

    def __init__(self, link: MavlinkLink, config: MavlinkConfig, embodiment: Embodiment) -> None:
        self._link = link

    def send(self, reference: Reference) -> None:
        """See ``SetPoints``."""
        position, velocity = swap_world(reference.pose[:3, 3]), swap_world(reference.velocity)
        self._link.send_local(reference.time_ms, _ACCELERATION | _YAW_RATE, position, velocity, reference.yaw)


class VelocitySetPoints:
    """Velocities with the heading; we make up for the distance. See ``SetPoints``."""

    def __init__(self, link: MavlinkLink, config: MavlinkConfig, embodiment: Embodiment) -> None:
        self._link, self._fastest = link, embodiment.flying_base.velocity_limit

    def send(self, reference: Reference) -> None:
        """See ``SetPoints``."""
        distance = reference.pose[:3, 3] - self._link.vehicle.position
        velocity = reference.velocity + _POSITION_RATE * distance
        velocity = velocity * min(1.0, self._fastest / max(float(np.linalg.norm(velocity)), 1e-9))
        mask = _POSITION | _ACCELERATION | _YAW_RATE
        self._link.send_local(reference.time_ms, mask, np.zeros(3), swap_world(velocity), reference.yaw)


class AttitudeSetPoints:
    """Attitudes with thrust; position and velocity are controlled here. See ``SetPoints``."""

    def __init__(self, link: MavlinkLink, config: MavlinkConfig, embodiment: Embodiment) -> None:
        self._link = link
        self._controller = GeometricController(embodiment)
        self._share = config.hover_thrust / -float(GRAVITY[2])  # of thrust, for each m/s^2

    def send(self, reference: Reference) -> None:
        """See ``SetPoints``."""
        vehicle = self._link.vehicle
        state = BaseState(vehicle.position, vehicle.pose[:3, :3], vehicle.velocity, np.zeros(3))
        attitude, force = self._controller.aim(
            reference.pose[:3, 3],
            np.array(heading_of(reference.pose)),
            state,
            velocity=reference.velocity,
        )
        thrust = float(np.clip(self._share * force, 0.0, 1.0))
        self._link.send_attitude(reference.time_ms, matrix_to_quaternion(swap_rotation(attitude)), thrust)


SET_POINTS: Mapping[str, Callable[[MavlinkLink, MavlinkConfig, Embodiment], SetPoints]] = {
    "position": PositionSetPoints,
    "velocity": VelocitySetPoints,
    "attitude": AttitudeSetPoints,
}
