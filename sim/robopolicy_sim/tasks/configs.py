"""Configs of the simulated tasks; this module imports neither mujoco nor gymnasium.

``target`` names the environment; ``expert``, where there is one, who can demonstrate the task; ``mirror``,
where a task has a mirror symmetry, a function ``(key, values [..., *shape]) -> values`` that training uses to
see every demonstration from both sides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from robopolicy_sim.worlds.configs import DisturbanceConfig


@dataclass
class PickPlaceConfig:
    """Pick up a cube and place it on a pad, seen by a scene camera and a wrist camera.

    Attributes:
        embodiment: name or file of the robot.
        image_size: height and width of both camera images [px].
        max_steps: control steps (10 Hz) until the episode is truncated.
        disturbance: what makes it harder.
    """

    target: ClassVar[str] = "robopolicy_sim.tasks.pick_place:PickPlaceEnv"
    expert: ClassVar[str] = "robopolicy_sim.experts.pick_place:PickPlaceExpert"

    embodiment: str = "ur5e"
    image_size: int = 64
    max_steps: int = 72
    disturbance: DisturbanceConfig = field(default_factory=DisturbanceConfig)


@dataclass
class PushTStateConfig:
    """Push a T-shaped block onto its target, from the block's pose.

    Attributes:
        max_steps: control steps (10 Hz) until the episode is truncated.
        success_threshold: share of the target that the block must cover.
    """

    target: ClassVar[str] = "robopolicy_sim.tasks.pusht:PushTEnv"
    mirror: ClassVar[str] = "robopolicy_sim.tasks.pusht_mirror:mirror"

    max_steps: int = 300
    success_threshold: float = 0.95


@dataclass
class PushTImageConfig:
    """Push a T-shaped block onto its target, from images.

    Attributes:
        max_steps: control steps (10 Hz) until the episode is truncated.
        image_size: height and width of the camera image [px].
        success_threshold: share of the target that the block must cover.
    """

    target: ClassVar[str] = "robopolicy_sim.tasks.pusht:PushTEnv"
    mirror: ClassVar[str] = "robopolicy_sim.tasks.pusht_mirror:mirror"

    max_steps: int = 300
    image_size: int = 96
    success_threshold: float = 0.95
