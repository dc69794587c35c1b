"""Config of the simulated robot; this module imports neither mujoco nor gymnasium."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass
class SimulatedRobotConfig:
    """The arm of the pick-and-place task behind the driver interface, in real time in processes of its own.

    Attributes:
        embodiment: name of the arm.
        image_size: height and width of both camera images [px].
        camera_rate_hz: images per second of each camera.
    """

    target: ClassVar[str] = "robopolicy_sim.robot:make_robot"

    embodiment: str = "ur5e"
    image_size: int = 64
    camera_rate_hz: float = 50.0
