"""Embodiments: the kinematics, limits, inertia and sensors of robots, as data files (one JSON file each)."""

from robopolicy_drivers.embodiments.embodiment import (
    Embodiment,
    embodiment_from_json,
    embodiment_names,
    load_embodiment,
)
from robopolicy_drivers.embodiments.parts import (
    CameraMount,
    Capsule,
    FlyingBase,
    ForceTorqueSensor,
    Gripper,
    Joint,
    Latencies,
    Pose,
    Rotor,
    TouchPad,
)

__all__ = [
    "CameraMount",
    "Capsule",
    "Embodiment",
    "FlyingBase",
    "ForceTorqueSensor",
    "Gripper",
    "Joint",
    "Latencies",
    "Pose",
    "Rotor",
    "TouchPad",
    "embodiment_from_json",
    "embodiment_names",
    "load_embodiment",
]
