"""Faults on request: a part of a simulated robot fails, so that what follows can be tried out."""

from __future__ import annotations

import time

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.geometry import Array
from robopolicy_sim.configs import Fault, FaultConfig
from robopolicy_sim.worlds.world import World


class Faults:
    """Lets the robots of one world fail as a config says, from a time of its world on until a reset.

    Args:
        world: whose robots fail.
        config: what fails, and when.

    Raises:
        ConfigError: a robot has no such part.
    """

    def __init__(self, world: World, config: FaultConfig) -> None:
        self._world, self._fault, self._after = world, Fault(config.kind), config.after
        self._held: list[Array] = []
        for robot in world.robots:
            if self._fault is Fault.JOINT_STUCK and not robot.embodiment.joints:
                raise ConfigError(
                    f"The embodiment '{robot.embodiment.name}' has no joint that could be stuck; take "
                    "another robot.fault.kind, or an arm."
                )

    def begun(self, fault: Fault) -> bool:
        """Returns whether it is this fault that is asked for, and its time has come."""
        return self._fault is fault and self._world.time >= self._after

    def spoil(self) -> None:
        """Spoils what the robots were told last; call it before the physics goes on.

        A process that is silent never returns from here; it ends with its parent.
        """
        while self.begun(Fault.ROBOT_SILENT):
            time.sleep(1.0)
        if self.begun(Fault.GRIPPER_OPEN):
            for robot in self._world.robots:
                robot.set_targets(robot.joint_targets, robot.embodiment.parallel_gripper.max_width)
        if not self.begun(Fault.JOINT_STUCK):
            self._held = []
            return
        self._held = self._held or [robot.joint_positions for robot in self._world.robots]
        for robot, held in zip(self._world.robots, self._held, strict=True):
            robot.set_targets([held[0], *robot.joint_targets[1:]], robot.gripper_target)
