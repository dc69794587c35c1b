"""From joint targets to joint set points that may be sent: interpolation and gate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy_drivers.control.guarded import Guarded
from robopolicy_drivers.embodiments import Embodiment
from robopolicy_drivers.realtime.interpolator import WaypointPart
from robopolicy_drivers.safety.checks import Check, Measured
from robopolicy_drivers.safety.configs import SafetyConfig
from robopolicy_drivers.safety.gate import SafetyGate
from robopolicy_drivers.safety.limits import MotionLimits
from robopolicy_drivers.safety.steps import JointStepLimit


class GuardedJoints(Guarded):
    """An arm that is commanded by joint positions ``[J]`` [rad]. See ``Guarded``.

    Args:
        embodiment: of the arm.
        joints: where it stands ``[J]`` [rad].
        period_s: time between two ticks [s].
        config: what the gate does where a limit is exceeded; its angular speed and acceleration are those of
            the plan, of all joints together.
        checks: further limits of the gate.
    """

    def __init__(
        self,
        embodiment: Embodiment,
        joints: ArrayLike,
        *,
        period_s: float,
        config: SafetyConfig | None = None,
        checks: Sequence[Check] = (),
    ) -> None:
        limits = MotionLimits.of_joints(embodiment)
        gate = SafetyGate(joints, limits, period_s=period_s, config=config, checks=checks)
        settings = gate.config
        part = WaypointPart(len(embodiment.joints), settings.speed_rad, settings.acceleration_rad)
        super().__init__(gate, (part,), JointStepLimit(settings.step_rad))

    def tick(
        self,
        now_ns: int,
        *,
        state_ns: int | None = None,
        position: NDArray[np.floating] | None = None,
        measured: Measured | None = None,
    ) -> NDArray[np.float64]:
        """Returns the joint positions ``[J]`` to send now; arguments as of ``SafetyGate.filter``."""
        planned = self._plan.evaluate(now_ns)
        sent = self.gate.filter(planned, now_ns, state_ns=state_ns, position=position, measured=measured)
        self._went(planned)
        return sent

    def _place(self) -> NDArray[np.float64]:
        return self.gate.sent
