"""MAVLink's frames and ours: north-east-down with forward-right-down, east-north-up with forward-left-up.

Every map here is its own inverse, and exact: it only permutes numbers and changes signs.
"""

from __future__ import annotations

import math

import numpy as np

from robopolicy_datasets.geometry import Array


def swap_world(vector: Array) -> Array:
    """Returns a vector ``[..., 3]`` along north, east, down as one along east, north, up, or back."""
    vector = np.asarray(vector)
    return np.stack([vector[..., 1], vector[..., 0], -vector[..., 2]], axis=-1)


def swap_body(vector: Array) -> Array:
    """Returns a vector ``[..., 3]`` along forward, right, down as one along forward, left, up, or back."""
    vector = np.asarray(vector)
    return np.stack([vector[..., 0], -vector[..., 1], -vector[..., 2]], axis=-1)


def swap_rotation(rotation: Array) -> Array:
    """Returns the matrix ``[..., 3, 3]`` from body to world of the other convention for both frames."""
    rows = np.swapaxes(swap_world(np.swapaxes(rotation, -1, -2)), -1, -2)
    return swap_body(rows)


def swap_heading(angle: float) -> float:
    """Returns a heading counted from north to the east as one counted from east to the north, or the reverse.

    Args:
        angle: [rad].

    Returns:
        the angle in [-pi, pi] [rad].
    """
    return math.remainder(0.5 * math.pi - angle, 2.0 * math.pi)


def heading_of(rotation: Array) -> float:
    """Returns the angle from the world's x axis to where the body's x axis points, about z [rad]."""
    return math.atan2(rotation[1, 0], rotation[0, 0])


def level(heading: float) -> Array:
    """Returns the rotation ``[3, 3]`` of a level body whose x axis has a heading [rad]."""
    cosine, sine = math.cos(heading), math.sin(heading)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
