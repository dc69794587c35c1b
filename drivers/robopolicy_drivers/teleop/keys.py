"""What the keys of a keyboard mean."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from robopolicy_drivers.teleop.configs import Button
from robopolicy_drivers.teleop.steering import Array

# Along the person's axes: away, left, up.
MOVES = {
    **dict.fromkeys(("w", "up"), (1, 0, 0)),
    **dict.fromkeys(("s", "down"), (-1, 0, 0)),
    **dict.fromkeys(("a", "left"), (0, 1, 0)),
    **dict.fromkeys(("d", "right"), (0, -1, 0)),
    **dict.fromkeys(("r", "page up"), (0, 0, 1)),
    **dict.fromkeys(("f", "page down"), (0, 0, -1)),
}
# About the tool's own axes: z out of it, the fingers opening along y.
TURNS = {"q": (0, 0, -1), "e": (0, 0, 1), "z": (1, 0, 0), "x": (-1, 0, 0), "c": (0, 1, 0), "v": (0, -1, 0)}
SLOWLY = ("left shift", "right shift")
SLOW = 0.2  # of the speed
BUTTON_OF = {
    "space": Button.GRIPPER,
    "t": Button.TAKE_OVER,
    "return": Button.SUCCESS,
    "backspace": Button.DISCARD,
    "escape": Button.END,
    "tab": Button.NEXT,
}


def twist_of(keys: Collection[str]) -> Array:
    """Returns what held keys ask for ``[6]``, see ``Steering``; keys of no meaning here are passed over."""
    return np.concatenate([_direction(keys, MOVES), _direction(keys, TURNS)])


def buttons_of(keys: Collection[str]) -> frozenset[Button]:
    """Returns the buttons that keys stand for."""
    return frozenset(BUTTON_OF[key] for key in keys if key in BUTTON_OF)


def _direction(keys: Collection[str], table: dict[str, tuple[int, int, int]]) -> Array:
    wanted = np.sum([table[key] for key in keys if key in table], axis=0) * np.ones(3)
    direction: Array = np.clip(wanted, -1.0, 1.0) * (SLOW if any(key in keys for key in SLOWLY) else 1.0)
    return direction
