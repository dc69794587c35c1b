"""Embodiments: the kinematics, limits and shape of arms, as data files (one JSON file an arm)."""

from robopolicy_drivers.embodiments.embodiment import (
    Capsule,
    Embodiment,
    Gripper,
    Joint,
    embodiment_from_json,
    embodiment_names,
    load_embodiment,
)

__all__ = [
    "Capsule",
    "Embodiment",
    "Gripper",
    "Joint",
    "embodiment_from_json",
    "embodiment_names",
    "load_embodiment",
]
