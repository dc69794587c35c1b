"""What all guarded controllers share: a way through time-stamped targets, and who may stop it.

They run in the process that owns the robot, at every tick of its control loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy_drivers.realtime.interpolator import WaypointInterpolator, WaypointPart
from robopolicy_drivers.safety.gate import SafetyGate
from robopolicy_drivers.safety.steps import StepLimit


class Guarded(ABC):
    """Plans a way; a subclass makes set points of it, on which the gate has the last word.

    Args:
        gate: the safety gate.
        parts: of a target, in order.
        step: the largest step from one target to the next.

    Attributes:
        gate: as given.
    """

    def __init__(self, gate: SafetyGate, parts: Sequence[WaypointPart], step: StepLimit) -> None:
        self.gate = gate
        self._parts = tuple(parts)
        self._step = step
        self._plan = self._standing()

    def command(self, target: ArrayLike, at_ns: int, now_ns: int) -> None:
        """Plans to be at ``target`` at ``at_ns``.

        Args:
            target: ``[A]``; what the step limit leaves of it.
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

    def stand(self) -> None:
        """Drops all targets; the next plan begins, at rest, where the gate's last set point is."""
        self._plan = self._standing()

    @abstractmethod
    def _place(self) -> NDArray[np.float64]:
        """Returns where the robot is commanded to be ``[A]``, as a target."""

    def _went(self, planned: NDArray[np.float64]) -> bool:
        """Notes that the gate has judged what was ``planned [A]``; returns whether the plan goes on.

        Where the gate brakes instead, the next plan begins where the robot is commanded to be.
        """
        if self.gate.holding:
            self.stand()
        return not self.gate.holding

    def _standing(self) -> WaypointInterpolator:
        return WaypointInterpolator(self._place(), self._parts)
