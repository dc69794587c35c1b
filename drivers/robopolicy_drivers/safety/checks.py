"""Limits on more than single coordinates: where the tool is, how hard it pushes, how far a vehicle tilts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError

Measured = Mapping[str, NDArray]


class Check(Protocol):
    """A limit on a set point or on what is measured."""

    @property
    def name(self) -> str:
        """Its name: that of its mode in ``SafetyConfig``."""

    def excess(self, set_point: NDArray[np.float64], measured: Measured) -> float:
        """Returns how far beyond the limit this is, in units of the check; 0 or less within it.

        Args:
            set_point: where the device would come to rest ``[A]``.
            measured: the device's newest state by key.
        """

    def describe(self) -> str:
        """Returns the limit for people, e.g. ``"the force is limited to 40 N"``."""


@dataclass(frozen=True)
class Workspace:
    """A box that the tool stays in.

    Attributes:
        lower, upper: its corners (3) [m], in the frame of ``position``.
        position: maps a set point ``[A]`` to the tool's position (3) [m].
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    position: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    name: str = "workspace"

    def __post_init__(self) -> None:
        lower, upper = (np.array(corner, np.float64) for corner in (self.lower, self.upper))
        if lower.shape != (3,) or upper.shape != (3,) or not (lower < upper).all():
            raise ConfigError(f"A workspace from {self.lower} to {self.upper} is no box of 3 sides.")
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)

    def excess(self, set_point: NDArray[np.float64], measured: Measured) -> float:  # noqa: D102
        point = self.position(set_point)
        return float(np.maximum(self.lower - point, point - self.upper).max())

    def describe(self) -> str:  # noqa: D102
        return f"the tool stays between {self.lower.tolist()} and {self.upper.tolist()} m"


@dataclass(frozen=True)
class ForceLimit:
    """The largest force that the tool may feel.

    Attributes:
        newton: the limit of its norm [N].
        key: of the measured wrench; its first three numbers are the force.
    """

    newton: float
    key: str = "robot0_wrench"
    name: str = "force"

    def excess(self, set_point: NDArray[np.float64], measured: Measured) -> float:  # noqa: D102
        return float(np.linalg.norm(measured[self.key][:3])) - self.newton

    def describe(self) -> str:  # noqa: D102
        return f"the force is limited to {self.newton:g} N"


@dataclass(frozen=True)
class TiltLimit:
    """The largest tilt of a vehicle.

    Attributes:
        radian: the limit of the angle between its z axis and the vertical [rad].
        key: of the measured orientation, an axis-angle (3).
    """

    radian: float
    key: str = "robot0_base_rot_axis_angle"
    name: str = "tilt"

    def excess(self, set_point: NDArray[np.float64], measured: Measured) -> float:  # noqa: D102
        rotation = np.asarray(measured[self.key], np.float64)
        angle = float(np.linalg.norm(rotation))
        upright = (rotation[2] / angle) ** 2 if angle > 0 else 1.0
        cosine = np.cos(angle) + (1 - np.cos(angle)) * upright  # the zz entry of Rodrigues' matrix
        return float(np.arccos(np.clip(cosine, -1.0, 1.0))) - self.radian

    def describe(self) -> str:  # noqa: D102
        return f"the tilt is limited to {self.radian:.3g} rad"
