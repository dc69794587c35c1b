"""What all guarded controllers of a tool share: its way through poses and openings."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.geometry import Array, pose_to_vector
from robopolicy_drivers.control.guarded import Guarded
from robopolicy_drivers.realtime.interpolator import WaypointPart
from robopolicy_drivers.safety.gate import SafetyGate
from robopolicy_drivers.safety.steps import ToolStepLimit


class GuardedTool(Guarded):
    """Plans the way of a tool. See ``Guarded``.

    Targets are ``[7]``, in the world: position (3) [m], axis-angle (3) [rad], gripper width [m].

    Args:
        gate: the safety gate; its config has the largest steps, speeds and accelerations of the plan.
        width: the gripper's opening [m].

    Attributes:
        gate: as given.
        width: the gripper's opening that is commanded [m].
    """

    def __init__(self, gate: SafetyGate, width: float) -> None:
        self.width = float(width)
        config = gate.config
        parts = (
            WaypointPart(3, config.speed_m, config.acceleration_m),
            WaypointPart(3, config.speed_rad, config.acceleration_rad, "rotation"),
            WaypointPart(1, kind="immediate"),
        )
        super().__init__(gate, parts, ToolStepLimit(config.step_m, config.step_rad))

    @property
    @abstractmethod
    def pose(self) -> Array:
        """Where the tool was sent last ``[4, 4]``, in the world."""

    def _place(self) -> NDArray[np.float64]:
        return np.array([*pose_to_vector(self.pose), self.width])

    def _went(self, planned: NDArray[np.float64]) -> bool:
        goes_on = super()._went(planned)
        if goes_on:
            self.width = float(planned[6])
        return goes_on
