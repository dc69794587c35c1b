"""How far a new target may lie from the one before."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robopolicy_drivers.realtime.rotations import interpolate_rotation, rotation_between
from robopolicy_drivers.safety.configs import Mode
from robopolicy_drivers.safety.gate import SafetyGate

LIMIT = "step"


@dataclass(frozen=True)
class StepLimit:
    """The largest step from one Cartesian target to the next: position (3), axis-angle (3), and more.

    Attributes:
        metre: of the position [m].
        radian: of the rotation [rad].
    """

    metre: float
    radian: float

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
        metres = math.dist(target[:3], before[:3])
        radians = math.hypot(*rotation_between(before[3:6].tolist(), target[3:6].tolist()))
        excess = max(metres / self.metre, radians / self.radian)
        if mode is Mode.OFF or excess <= 1:
            return target
        text = (
            f"a target {metres:.3g} m and {radians:.3g} rad from the one before was commanded; a step is at "
            f"most {self.metre:g} m and {self.radian:g} rad"
        )
        gate.log.note(LIMIT, mode, now_ns, text, excess - 1)
        if mode is Mode.STOP:
            gate.stop(text, now_ns)
        if mode is not Mode.CLIP:
            return target
        shortened = target.copy()
        shortened[:3] = before[:3] + (target[:3] - before[:3]) / excess
        shortened[3:6] = interpolate_rotation(before[3:6].tolist(), target[3:6].tolist(), 1 / excess)
        return shortened
