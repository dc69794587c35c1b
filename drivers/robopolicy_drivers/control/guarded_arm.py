"""From Cartesian targets to joint set points that may be sent: interpolation, inverse kinematics, gate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy_datasets.geometry import Array, invert_pose, pose_from_vector
from robopolicy_drivers.control.differential_ik import DifferentialIK
from robopolicy_drivers.control.guarded_tool import GuardedTool
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.safety.checks import Check, Measured, Workspace
from robopolicy_drivers.safety.configs import SafetyConfig
from robopolicy_drivers.safety.gate import SafetyGate
from robopolicy_drivers.safety.limits import MotionLimits


class GuardedArm(GuardedTool):
    """An arm whose base stands. See ``GuardedTool``; the set points of its gate are joint positions.

    Args:
        kinematics: of the arm's tool center point, in the frame of its base.
        joints: where it stands ``[J]`` [rad].
        width: its gripper's opening [m].
        period_s: time between two ticks [s].
        base_pose: of its base in the world ``[4, 4]``; without it, the base's frame is the world's.
        iterations: of the inverse kinematics at a tick.
        config: what the gate does where a limit is exceeded.
        workspace: lowest and highest corner of the box in the world that the tool stays in ``[2, 3]`` [m].
        checks: further limits of the gate.
    """

    def __init__(
        self,
        kinematics: Kinematics,
        joints: ArrayLike,
        width: float,
        *,
        period_s: float,
        base_pose: Array | None = None,
        iterations: int = 2,
        config: SafetyConfig | None = None,
        workspace: ArrayLike | None = None,
        checks: Sequence[Check] = (),
    ) -> None:
        self._kinematics = kinematics
        self._base = np.eye(4) if base_pose is None else base_pose
        self._world = invert_pose(self._base)  # seen from the base
        self._ik = DifferentialIK(kinematics, period_s=period_s, iterations=iterations)
        if workspace is not None:
            lower, upper = np.array(workspace, np.float64)
            checks = (Workspace(lower, upper, self._tool_position), *checks)
        limits = MotionLimits.of_joints(kinematics.embodiment)
        gate = SafetyGate(joints, limits, period_s=period_s, config=config, checks=checks)
        self._joints = gate.sent
        super().__init__(gate, width)

    @property
    def pose(self) -> Array:
        """See ``GuardedTool``."""
        return self._tool(self.gate.sent)

    def stand(self) -> None:
        """See ``Guarded``."""
        super().stand()
        self._joints = self.gate.sent

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
        goal = self._world @ pose_from_vector(planned[None, :6])
        self._joints = self._ik.solve(goal, self._joints[None])[0]
        sent = self.gate.filter(self._joints, now_ns, state_ns=state_ns, position=position, measured=measured)
        self._went(planned)
        return sent

    def _tool(self, joints: Array) -> Array:
        return self._base @ self._kinematics.forward(joints)

    def _tool_position(self, joints: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(self._tool(joints)[:3, 3], np.float64)
