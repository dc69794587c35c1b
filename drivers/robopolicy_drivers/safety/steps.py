"""How far a new target may lie from the one before."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robopolicy_drivers.realtime.rotations import interpolate_rotation, rotation_between
from robopolicy_drivers.safety.configs import Mode
from robopolicy_drivers.safety.gate import SafetyGate

LIMIT = "step"


class StepLimit(ABC):
    """The largest step from one target to the next."""

    @abstractmethod
    def excess(self, target: NDArray[np.float64], before: NDArray[np.float64]) -> tuple[float, str]:
        """Returns how many times the largest step this one is, and both for people."""

    @abstractmethod
    def shortened(
        self, target: NDArray[np.float64], before: NDArray[np.float64], share: float
    ) -> NDArray[np.float64]:
        """Returns the target that lies a share of the way from the one before."""

    def admit(
        self, target: NDArray[np.float64], before: NDArray[np.float64], gate: SafetyGate, now_ns: int
    ) -> NDArray[np.float64]:
        """Returns the target ``[A]`` to follow; where it is too far, what the gate's mode of steps says.

        Args:
            target: the new one.
            before: the one before.
            gate: whose log and stop are used.
            now_ns: the time [ns, monotonic].
        """
        mode = Mode(gate.config.step)
        if mode is Mode.OFF:
            return target
        excess, text = self.excess(target, before)
        if excess <= 1:
            return target
        text = f"a target {text}"
        gate.log.note(LIMIT, mode, now_ns, text, excess - 1)
        if mode is Mode.STOP:
            gate.stop(text, now_ns)
        return self.shortened(target, before, 1 / excess) if mode is Mode.CLIP else target


@dataclass(frozen=True)
class ToolStepLimit(StepLimit):
    """The largest step of Cartesian targets: position (3), axis-angle (3), and more.

    Attributes:
        metre: of the position [m].
        radian: of the rotation [rad].
    """

    metre: float
    radian: float

    def excess(self, target: NDArray[np.float64], before: NDArray[np.float64]) -> tuple[float, str]:  # noqa: D102
        metres = math.dist(target[:3], before[:3])
        radians = math.hypot(*rotation_between(before[3:6].tolist(), target[3:6].tolist()))
        text = (
            f"{metres:.3g} m and {radians:.3g} rad from the one before was commanded; a step is at most "
            f"{self.metre:g} m and {self.radian:g} rad"
        )
        return max(metres / self.metre, radians / self.radian), text

    def shortened(  # noqa: D102
        self, target: NDArray[np.float64], before: NDArray[np.float64], share: float
    ) -> NDArray[np.float64]:
        found = target.copy()
        found[:3] = before[:3] + share * (target[:3] - before[:3])
        found[3:6] = interpolate_rotation(before[3:6].tolist(), target[3:6].tolist(), share)
        return found


@dataclass(frozen=True)
class JointStepLimit(StepLimit):
    """The largest step of joint positions.

    Attributes:
        radian: of each joint [rad].
    """

    radian: float

    def excess(self, target: NDArray[np.float64], before: NDArray[np.float64]) -> tuple[float, str]:  # noqa: D102
        radians = float(np.abs(target - before).max(initial=0.0))
        text = (
            f"in which a joint is {radians:.3g} rad from the one before was commanded; a step is at most "
            f"{self.radian:g} rad"
        )
        return radians / self.radian, text

    def shortened(  # noqa: D102
        self, target: NDArray[np.float64], before: NDArray[np.float64], share: float
    ) -> NDArray[np.float64]:
        return before + share * (target - before)
