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
class ManipulationConfig:
    """What the tasks with robots and objects have in common.

    Attributes:
        embodiment: name or file of the robot, or of all robots where there are several.
        image_size: height and width of the camera images [px].
        max_steps: control steps (10 Hz) until the episode is truncated, for a body of full pace.
        touch: what is felt beside what is seen, of wrench, markers, taxels and rgb.
        disturbance: what makes it harder.
        simulator: whose physics it is: mujoco, or pybullet for the twin.
    """

    embodiment: str = "ur5e"
    image_size: int = 64
    max_steps: int = 100
    touch: list[str] = field(default_factory=list)
    disturbance: DisturbanceConfig = field(default_factory=DisturbanceConfig)
    simulator: str = "mujoco"


@dataclass
class PickPlaceConfig(ManipulationConfig):
    """Pick up a cube and place it on a pad, seen by a scene camera and a wrist camera."""

    target: ClassVar[str] = "robopolicy_sim.tasks.pick_place:PickPlaceEnv"
    expert: ClassVar[str] = "robopolicy_sim.experts.pick_place:PickPlaceExpert"

    max_steps: int = 72


@dataclass
class PickPlaceStateConfig(PickPlaceConfig):
    """Pick up a cube and place it on a pad, from the places of both: no camera, so it learns in a minute."""

    target: ClassVar[str] = "robopolicy_sim.tasks.pick_place_state:PickPlaceStateEnv"


@dataclass
class SurfaceConfig:
    """How the surface of a task that presses on it lies and moves; the numbers are ours and stay fixed.

    RDP (arXiv 2503.02881) perturbs the object after contact, by an amount that we do not know. Our standard
    perturbation is ``shift=0.015``: 9 mm up or down (5 N press the spring by 17 mm) and 12 mm to a side.

    Attributes:
        tilt: largest tilt about each horizontal axis, new in each episode [rad].
        shift: how far the surface moves in a random direction, once a fifth of the work is done [m].
        shift_seconds: that the move takes [s].
    """

    tilt: float = 0.12
    shift: float = 0.0
    shift_seconds: float = 1.0


@dataclass
class PeelConfig(ManipulationConfig):
    """Pick up a peeler and peel a strip of a cucumber, pressing with a wanted force.

    Attributes:
        surface: how the cucumber lies and moves.
    """

    target: ClassVar[str] = "robopolicy_sim.tasks.peel:PeelEnv"
    expert: ClassVar[str] = "robopolicy_sim.experts.surface:SurfaceExpert"

    max_steps: int = 160
    surface: SurfaceConfig = field(default_factory=SurfaceConfig)


@dataclass
class WipeConfig(ManipulationConfig):
    """Pick up an eraser and wipe the ink off a tilted board, pressing with a wanted force.

    Attributes:
        surface: how the board lies and moves.
    """

    target: ClassVar[str] = "robopolicy_sim.tasks.wipe:WipeEnv"
    expert: ClassVar[str] = "robopolicy_sim.experts.surface:SurfaceExpert"

    max_steps: int = 160
    surface: SurfaceConfig = field(default_factory=SurfaceConfig)


@dataclass
class LiftTogetherConfig(ManipulationConfig):
    """Lift a tray with a cup on it with two robots."""

    target: ClassVar[str] = "robopolicy_sim.tasks.lift_together:LiftTogetherEnv"
    expert: ClassVar[str] = "robopolicy_sim.experts.lift_together:LiftTogetherExpert"

    max_steps: int = 100


@dataclass
class TidyTableConfig(ManipulationConfig):
    """Open a drawer, put two coloured cubes in, close it: four stages, each with a sentence."""

    target: ClassVar[str] = "robopolicy_sim.tasks.tidy_table:TidyTableEnv"
    expert: ClassVar[str] = "robopolicy_sim.experts.tidy_table:TidyTableExpert"

    max_steps: int = 320


@dataclass
class PushConfig(ManipulationConfig):
    """Push a cube onto a pad with the fingers closed, seen by a scene camera and a wrist camera."""

    target: ClassVar[str] = "robopolicy_sim.tasks.push:PushEnv"
    expert: ClassVar[str] = "robopolicy_sim.experts.push:PushExpert"

    max_steps: int = 100


@dataclass
class PegInHoleConfig(ManipulationConfig):
    """Put a peg of 1 cm into a hole of 2 cm, seen by a scene camera and a wrist camera.

    Attributes:
        max_steps: control steps (10 Hz) until the episode is truncated; 50 s as in UMI-on-Air.
    """

    target: ClassVar[str] = "robopolicy_sim.tasks.peg_in_hole:PegInHoleEnv"
    expert: ClassVar[str] = "robopolicy_sim.experts.peg_in_hole:PegInHoleExpert"

    max_steps: int = 500


@dataclass
class OpenAndRetrieveConfig(ManipulationConfig):
    """Open a cabinet and take out a can, seen by a scene camera and a wrist camera.

    Attributes:
        max_steps: control steps (10 Hz) until the episode is truncated; 60 s as in UMI-on-Air.
    """

    target: ClassVar[str] = "robopolicy_sim.tasks.open_and_retrieve:OpenAndRetrieveEnv"
    expert: ClassVar[str] = "robopolicy_sim.experts.open_and_retrieve:OpenAndRetrieveExpert"

    max_steps: int = 600


@dataclass
class RotateValveConfig(ManipulationConfig):
    """Turn the lever of a valve by a quarter turn, seen by a scene camera and a wrist camera.

    Attributes:
        max_steps: control steps (10 Hz) until the episode is truncated; 70 s as in UMI-on-Air.
    """

    target: ClassVar[str] = "robopolicy_sim.tasks.rotate_valve:RotateValveEnv"
    expert: ClassVar[str] = "robopolicy_sim.experts.rotate_valve:RotateValveExpert"

    max_steps: int = 700


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
