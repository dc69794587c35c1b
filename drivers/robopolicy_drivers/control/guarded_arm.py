"""From Cartesian targets to joint set points that may be sent: interpolation, inverse kinematics, gate.

It runs in the process that owns the arm, at every tick of its control loop.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy_datasets.geometry import pose_from_vector, pose_to_vector
from robopolicy_drivers.control.differential_ik import DifferentialIK
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.realtime.interpolator import WaypointInterpolator, WaypointPart
from robopolicy_drivers.safety.checks import Check, Measured, Workspace
from robopolicy_drivers.safety.configs import SafetyConfig
from robopolicy_drivers.safety.gate import SafetyGate
from robopolicy_drivers.safety.limits import MotionLimits
from robopolicy_drivers.safety.steps import StepLimit


class GuardedArm:
    """See the module text. Targets are ``[7]``: position (3) [m], axis-angle (3) [rad], gripper width [m].

    Args:
        kinematics: of the arm; targets are poses of its tool center point in its base frame.
        joints: where it stands ``[J]`` [rad].
        width: its gripper's opening [m].
        period_s: time between two ticks [s].
        iterations: of the inverse kinematics at a tick.
        config: what the gate does where a limit is exceeded.
        workspace: lowest and highest corner of the box that the tool stays in ``[2, 3]`` [m].
        checks: further limits of the gate.

    Attributes:
        gate: the safety gate.
        width: the gripper's opening that is commanded [m].
    """

    def __init__(
        self,
        kinematics: Kinematics,
        joints: ArrayLike,
        width: float,
        *,
        period_s: float,
        iterations: int = 2,
        config: SafetyConfig | None = None,
        workspace: ArrayLike | None = None,
        checks: Sequence[Check] = (),
    ) -> None:
        self._kinematics = kinematics
        self._ik = DifferentialIK(kinematics, period_s=period_s, iterations=iterations)
        config = config or SafetyConfig()
        if workspace is not None:
            lower, upper = np.array(workspace, np.float64)
            checks = (Workspace(lower, upper, self._tool), *checks)
        self.gate = SafetyGate(
            joints,
            MotionLimits.of_joints(kinematics.embodiment),
            period_s=period_s,
            config=config,
            checks=checks,
        )
        self.width = float(width)
        self._joints = self.gate.sent
        self._parts = (
            WaypointPart(3, config.speed_m, config.acceleration_m),
            WaypointPart(3, config.speed_rad, config.acceleration_rad, "rotation"),
            WaypointPart(1, kind="immediate"),
        )
        self._step = StepLimit(config.step_m, config.step_rad)
        self._plan = self._standing()

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
        """Drops all targets; the arm brakes and holds."""
        self._plan.hold(now_ns)

    def tick(
        self,
        now_ns: int,
        *,
        state_ns: int | None = None,
        position: NDArray[np.floating] | None = None,
        measured: Measured | None = None,
    ) -> NDArray[np.float64]:
        """Returns the joint positions ``[J]`` to send now; ``width`` is what the gripper is to be sent.

        Args:
            now_ns: of the tick [ns, monotonic].
            state_ns: when the arm's state was measured [ns, monotonic].
            position: the measured joint positions ``[J]`` [rad].
            measured: what the gate's checks look at, by key.
        """
        planned = self._plan.evaluate(now_ns)
        # Solved on from the last solution, not from what was sent of it: the gate catches up by itself.
        self._joints = self._ik.solve(pose_from_vector(planned[None, :6]), self._joints[None])[0]
        sent = self.gate.filter(self._joints, now_ns, state_ns=state_ns, position=position, measured=measured)
        if self.gate.holding:  # the plan was left: the next one begins where the arm is commanded to be
            self._plan, self._joints = self._standing(), sent
        else:
            self.width = float(planned[6])
        return sent

    def _tool(self, joints: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(self._kinematics.forward(joints)[:3, 3], np.float64)

    def _standing(self) -> WaypointInterpolator:
        pose = self._kinematics.forward(self.gate.sent)
        return WaypointInterpolator([*pose_to_vector(pose), self.width], self._parts)
