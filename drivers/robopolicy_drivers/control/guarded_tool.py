"""What all guarded controllers share: the way of a tool through time-stamped targets, and who may stop it.

They run in the process that owns the robot, at every tick of its control loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy_datasets.geometry import Array, pose_to_vector
from robopolicy_drivers.realtime.interpolator import WaypointInterpolator, WaypointPart
from robopolicy_drivers.safety.gate import SafetyGate
from robopolicy_drivers.safety.steps import StepLimit


class GuardedTool(ABC):
    """Plans the way of a tool; a subclass makes set points of it, on which the gate has the last word.

    Targets are ``[7]``, in the world: position (3) [m], axis-angle (3) [rad], gripper width [m].

    Args:
        gate: the safety gate; its config has the largest steps, speeds and accelerations of the plan.
        width: the gripper's opening [m].

    Attributes:
        gate: as given.
        width: the gripper's opening that is commanded [m].
    """

    def __init__(self, gate: SafetyGate, width: float) -> None:
        self.gate = gate
        self.width = float(width)
        config = gate.config
        self._parts = (
            WaypointPart(3, config.speed_m, config.acceleration_m),
            WaypointPart(3, config.speed_rad, config.acceleration_rad, "rotation"),
            WaypointPart(1, kind="immediate"),
        )
        self._step = StepLimit(config.step_m, config.step_rad)
        self._plan = self._standing()

    @property
    @abstractmethod
    def pose(self) -> Array:
        """Where the tool was sent last ``[4, 4]``, in the world."""

    def command(self, target: ArrayLike, at_ns: int, now_ns: int) -> None:
        """Plans to be at ``target`` at ``at_ns``.

        Args:
            target: ``[7]``; what the step limit leaves of it.
            at_ns: when [ns, monotonic]; a time that is past means as soon as the limits allow.
            now_ns: from when on [ns, monotonic].

        Raises:
            DeviceError: the stop has latched.
        """
        self.gate.commanded(now_ns)
        before = self._plan.before(at_ns, now_ns)
        admitted = self._step.admit(np.asarray(target, np.float64), before, self.gate, now_ns)
        if not self.gate.stopped:
            self._plan.schedule(admitted, at_ns, now_ns)

    def hold(self, now_ns: int) -> None:
        """Drops all targets; the robot brakes and holds."""
        self._plan.hold(now_ns)

    def _went(self, planned: NDArray[np.float64]) -> bool:
        """Notes that the gate has judged what was ``planned [7]``; returns whether the plan goes on.

        Where the gate brakes instead, the next plan begins where the robot is commanded to be.
        """
        if self.gate.holding:
            self._plan = self._standing()
            return False
        self.width = float(planned[6])
        return True

    def _standing(self) -> WaypointInterpolator:
        return WaypointInterpolator([*pose_to_vector(self.pose), self.width], self._parts)
