"""Limits on more than single coordinates: where the tool is, how hard it pushes, how far a vehicle tilts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError

Measured = Mapping[str, NDArray]

# Keys of what is measured of a vehicle's base: position (3) [m] and axis-angle (3) [rad] in the world.
BASE_POSITION = "robot0_base_pos"
BASE_ROTATION = "robot0_base_rot_axis_angle"


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
        _keep_box(self)

    def excess(self, set_point: NDArray[np.float64], measured: Measured) -> float:  # noqa: D102
        return _beyond(self, self.position(set_point))

    def describe(self) -> str:  # noqa: D102
        return f"the tool stays between {self.lower.tolist()} and {self.upper.tolist()} m"


@dataclass(frozen=True)
class Geofence:
    """A box that a vehicle stays in.

    Attributes:
        lower, upper: its corners (3) [m], in the world.
        key: of the measured position (3) [m].
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    key: str = BASE_POSITION
    name: str = "geofence"

    def __post_init__(self) -> None:
        _keep_box(self)

    def excess(self, set_point: NDArray[np.float64], measured: Measured) -> float:  # noqa: D102
        return _beyond(self, measured[self.key])

    def describe(self) -> str:  # noqa: D102
        return f"the vehicle stays between {self.lower.tolist()} and {self.upper.tolist()} m"


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
    key: str = BASE_ROTATION
    name: str = "tilt"

    def excess(self, set_point: NDArray[np.float64], measured: Measured) -> float:  # noqa: D102
        rotation = np.asarray(measured[self.key], np.float64)
        angle = float(np.linalg.norm(rotation))
        upright = (rotation[2] / angle) ** 2 if angle > 0 else 1.0
        cosine = np.cos(angle) + (1 - np.cos(angle)) * upright  # the zz entry of Rodrigues' matrix
        return float(np.arccos(np.clip(cosine, -1.0, 1.0))) - self.radian

    def describe(self) -> str:  # noqa: D102
        return f"the tilt is limited to {self.radian:.3g} rad"


def _keep_box(box: Workspace | Geofence) -> None:
    """Makes arrays of the corners of a box; refuses what is none."""
    lower, upper = (np.array(corner, np.float64) for corner in (box.lower, box.upper))
    if lower.shape != (3,) or upper.shape != (3,) or not (lower < upper).all():
        raise ConfigError(f"A {box.name} from {box.lower} to {box.upper} is no box of 3 sides.")
    object.__setattr__(box, "lower", lower)
    object.__setattr__(box, "upper", upper)


def _beyond(box: Workspace | Geofence, point: NDArray) -> float:
    """Returns how far a point (3) is outside of a box [m]; 0 or less within."""
    return float(np.maximum(box.lower - point, point - box.upper).max())
