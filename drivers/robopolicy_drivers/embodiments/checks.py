"""What the numbers of an embodiment must fulfil, and the words where they do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError

_ROUNDING = 1e-6


def require_positive(who: str, part: object, *names: str) -> None:
    """Raises ``ConfigError`` where an attribute of a part is not above 0."""
    for name in names:
        value = getattr(part, name)
        if not value > 0:
            raise ConfigError(f"{who} has the {name} {value:g}; it must be above 0.")


def require_unit(who: str, vector: Sequence[float]) -> None:
    """Raises ``ConfigError`` where a vector or quaternion has not length 1."""
    length = float(np.linalg.norm(vector))
    if abs(length - 1.0) > _ROUNDING:
        raise ConfigError(
            f"{who} is {list(vector)}, which has length {length:g} and not length 1; normalise it."
        )


def require_order(who: str, lower: Sequence[float], upper: Sequence[float]) -> None:
    """Raises ``ConfigError`` where a lower limit lies above its upper one."""
    if any(low > high for low, high in zip(lower, upper, strict=True)):
        raise ConfigError(f"{who} cross: {list(lower)} must not lie above {list(upper)}.")


def require_inertia(who: str, inertia: Sequence[float]) -> None:
    """Raises ``ConfigError`` where no body can have these moments of inertia."""
    largest = max(inertia)
    if min(inertia) <= 0:
        raise ConfigError(f"{who} has the inertia {list(inertia)} kg m^2; each moment must be above 0.")
    if largest > (sum(inertia) - largest) * (1 + _ROUNDING):
        raise ConfigError(
            f"{who} has the inertia {list(inertia)} kg m^2, which no body has: the largest moment is at most "
            "the sum of the other two (the triangle inequality)."
        )


def constant(values: Any) -> NDArray[np.float64]:
    """Returns an array that cannot be changed."""
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array
