"""Config of the simulated robot; this module imports neither mujoco nor gymnasium."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from robopolicy_datasets.errors import ConfigError, unknown_name
from robopolicy_drivers.configs import CompositeConfig
from robopolicy_drivers.safety.configs import Mode, SafetyConfig
from robopolicy_sim.worlds.configs import DisturbanceConfig


@dataclass
class LatencyConfig:
    """How much later than an ideal robot a simulated one is, rounded to its control ticks.

    Attributes:
        state: from a state to its arrival; it bears the time at which it was true [s].
        command: from a command to the motion; all of the motion is so much later [s].
        gripper: from a command to the gripper's motion; at least ``command`` [s].
        camera: from what an image shows to its arrival, which is its time stamp [s].
        embodiment: take the latencies in the file of the embodiment instead of these.
    """

    state: float = 0.0
    command: float = 0.0
    gripper: float = 0.0
    camera: float = 0.0
    embodiment: bool = False


class Fault(StrEnum):
    """What can go wrong with a simulated robot."""

    NONE = "none"
    """Nothing."""
    ROBOT_SILENT = "robot_silent"
    """Its process hangs: no state, no answer, no sign of life; connect again."""
    CAMERA_FROZEN = "camera_frozen"
    """Its cameras deliver no image any more, and their process lives on."""
    GRIPPER_OPEN = "gripper_open"
    """Its grippers let go and do not close again."""
    JOINT_STUCK = "joint_stuck"
    """The first joint of each arm stays where it is."""


@dataclass
class FaultConfig:
    """What fails, and when; a reset makes it good.

    Attributes:
        kind: none, robot_silent, camera_frozen, gripper_open or joint_stuck.
        after: simulated time since connecting or the last reset [s].

    Raises:
        UnknownNameError: there is no such fault.
        ConfigError: the time is negative.
    """

    kind: str = Fault.NONE
    after: float = 3.0

    def __post_init__(self) -> None:
        if self.kind not in tuple(Fault):
            raise unknown_name("fault", self.kind, tuple(Fault))
        if not self.after >= 0:
            raise ConfigError(f"robot.fault.after is {self.after} s; give 0 or more.")


@dataclass
class SimulatedRobotConfig:
    """The robots of a task behind the driver interface, in real time in processes of its own.

    Attributes:
        task: whose scene they are in.
        embodiment: name or file of the robots.
        image_size: height and width of the camera images [px].
        touch: what the robots feel, at the rate of their control: ``wrench``, ``markers``, ``taxels``.
        camera_rate_hz: images per second of each camera.
        workspace_lower: lowest corner of the box in the world that the tools stay in (3) [m].
        workspace_upper: its highest corner (3) [m].
        safety: what the safety gate does where a limit is exceeded. Large steps of a policy are clipped
            instead of ending the run: nothing can break.
        latency: how late it is.
        disturbance: what makes its life harder, as that of the robots in the task's environment.
        fault: what fails.
    """

    target: ClassVar[str] = "robopolicy_sim.robot:make_robot"

    task: str = "pick_place"
    embodiment: str = "ur5e"
    image_size: int = 64
    touch: list[str] = field(default_factory=list)
    camera_rate_hz: float = 50.0
    workspace_lower: list[float] = field(default_factory=lambda: [-0.9, -0.9, 0.0])
    workspace_upper: list[float] = field(default_factory=lambda: [0.9, 0.9, 1.2])
    safety: SafetyConfig = field(default_factory=lambda: SafetyConfig(step=Mode.CLIP))
    latency: LatencyConfig = field(default_factory=LatencyConfig)
    disturbance: DisturbanceConfig = field(default_factory=DisturbanceConfig)
    fault: FaultConfig = field(default_factory=FaultConfig)


@dataclass
class MirroredRobotConfig(CompositeConfig):
    """A real robot in simulated surroundings: the robot in a task's scene does what its joints do.

    The parts are those of ``robot=composite``: an arm and its gripper for each robot of the scene. The
    cameras show the scene, which also tells success and how far the grippers are open: what they hold is
    there only. So a policy can be tried on a robot's own protocol before anything real is in its way.

    Attributes:
        task: whose scene it is in.
        embodiment: name or file of the robots.
        image_size: height and width of the camera images [px].
        camera_rate_hz: images per second of each camera.
    """

    target: ClassVar[str] = "robopolicy_sim.mirror:make_mirrored"

    task: str = "pick_place"
    embodiment: str = "ur5e"
    image_size: int = 64
    camera_rate_hz: float = 50.0

    @property
    def scene(self) -> SimulatedRobotConfig:
        """The settings of the scene, as those of a simulated robot."""
        return SimulatedRobotConfig(
            task=self.task,
            embodiment=self.embodiment,
            image_size=self.image_size,
            camera_rate_hz=self.camera_rate_hz,
        )
