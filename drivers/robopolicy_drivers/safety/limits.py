"""The limits of motion that the safety gate keeps."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy_datasets.errors import ConfigError
from robopolicy_drivers.embodiments import Embodiment, FlyingBase


@dataclass(frozen=True)
class MotionLimits:
    """Limits of A coordinates, such as joints; infinite where there is none.

    Raises ``ConfigError`` where they do not fit together.

    Attributes:
        lower, upper: lowest and highest position ``[A]``.
        velocity: largest speed ``[A]`` [unit/s].
        acceleration: ``[A]`` [unit/s^2].
        jerk: ``[A]`` [unit/s^3].
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    velocity: NDArray[np.float64]
    acceleration: NDArray[np.float64]
    jerk: NDArray[np.float64]

    def __post_init__(self) -> None:
        shape = np.shape(self.lower)
        for item in fields(self):
            values = np.array(getattr(self, item.name), np.float64)
            if values.ndim != 1 or values.shape != shape or np.isnan(values).any():
                raise ConfigError(
                    f"The limit '{item.name}' is {values.tolist()}; {list(shape)} numbers are needed, as for "
                    "'lower'."
                )
            object.__setattr__(self, item.name, values)
        if not (self.lower <= self.upper).all():
            raise ConfigError(f"Lower limits {self.lower} lie above the upper ones {self.upper}.")
        if min(self.velocity.min(), self.acceleration.min(), self.jerk.min()) <= 0:
            raise ConfigError("Limits of velocity, acceleration and jerk must be above 0.")

    @classmethod
    def of_joints(cls, embodiment: Embodiment, jerk: ArrayLike = np.inf) -> MotionLimits:
        """Returns the limits of an embodiment's joints.

        Args:
            embodiment: the arm.
            jerk: of all joints or of each ``[J]`` [rad/s^3].
        """
        lower, upper = embodiment.position_limits.T
        return cls(
            lower,
            upper,
            embodiment.velocity_limits,
            embodiment.acceleration_limits,
            np.broadcast_to(jerk, lower.shape),
        )

    @classmethod
    def of_flying_tool(cls, base: FlyingBase) -> MotionLimits:
        """Returns the limits of a tool's position (3) [m] and turns (3) [rad] that a base carries.

        They are those of the base, along each axis, with its geofence.
        """
        unlimited = np.full(3, np.inf)
        return cls(
            np.concatenate([base.geofence_lower, -unlimited]),
            np.concatenate([base.geofence_upper, unlimited]),
            np.repeat([base.velocity_limit, base.angular_velocity_limit], 3),
            np.repeat([base.acceleration_limit, base.angular_acceleration_limit], 3),
            np.full(6, np.inf),
        )
