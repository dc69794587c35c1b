"""What the config classes of all devices check alike. Imports no numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence

from robopolicy_datasets.errors import ConfigError


def require_numbers(name: str, values: Sequence[float], count: int) -> None:
    """Refuses a setting that is not so many finite numbers.

    Args:
        name: of the setting, e.g. ``"robot.base_position"``.
        values: that were given.
        count: that are needed.

    Raises:
        ConfigError: there are fewer or more, or one is not finite.
    """
    if len(values) != count or not all(map(math.isfinite, values)):
        raise ConfigError(f"{name} is {list(values)}; give {count} finite numbers.")


def require_rotation(name: str, quaternion: Sequence[float]) -> None:
    """Refuses a setting that is no rotation.

    Args:
        name: of the setting.
        quaternion: that was given (4, wxyz).

    Raises:
        ConfigError: it is not 4 finite numbers, or all of them are 0.
    """
    require_numbers(name, quaternion, 4)
    if not any(quaternion):
        raise ConfigError(f"{name} is {list(quaternion)}; give a rotation (wxyz), [1,0,0,0] for none.")
