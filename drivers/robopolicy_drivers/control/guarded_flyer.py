"""From Cartesian targets to poses of a flying tool that may be sent: interpolation and gate.

What moves it there is the vehicle's: ``WholeBodyMpc`` follows ``ahead``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robopolicy_datasets.clock import seconds_to_ns
from robopolicy_datasets.geometry import (
    Array,
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_rot6d,
    pose_from_vector,
    pose_matrix,
)
from robopolicy_drivers.control.guarded_tool import GuardedTool
from robopolicy_drivers.embodiments import FlyingBase
from robopolicy_drivers.safety.checks import (
    BASE_POSITION,
    BASE_ROTATION,
    Check,
    Geofence,
    TiltLimit,
    Workspace,
)
from robopolicy_drivers.safety.configs import SafetyConfig
from robopolicy_drivers.safety.gate import SafetyGate
from robopolicy_drivers.safety.limits import MotionLimits

_ROUNDING = 1e-9  # [rad]


class GuardedFlyer(GuardedTool):
    """A tool that a flying base carries. See ``GuardedTool``; a stop brakes to a hover.

    The set points of its gate are the tool's position (3) [m] and the turns (3) [rad] about the world's axes
    that it has made since the start, of which only differences have a meaning. They keep to the base's limits
    of speed and acceleration and to its geofence; where the base really is, and how far it tilts, is watched.

    Args:
        base: what carries the tool.
        pose: where the tool is, in the world ``[4, 4]``.
        width: its gripper's opening [m].
        period_s: time between two ticks [s].
        config: what the gate does where a limit is exceeded; of its speeds and the base's the smaller count.
        workspace: lowest and highest corner of the box in the world that the tool stays in ``[2, 3]`` [m].
    """

    def __init__(
        self,
        base: FlyingBase,
        pose: Array,
        width: float,
        *,
        period_s: float,
        config: SafetyConfig | None = None,
        workspace: ArrayLike | None = None,
    ) -> None:
        config = config or SafetyConfig()
        config = replace(
            config,
            speed_m=min(config.speed_m, base.velocity_limit),
            speed_rad=min(config.speed_rad, base.angular_velocity_limit),
            acceleration_m=min(config.acceleration_m, base.acceleration_limit),
            acceleration_rad=min(config.acceleration_rad, base.angular_acceleration_limit),
        )
        fence = np.array((base.geofence_lower, base.geofence_upper), np.float64)
        checks: list[Check] = [Geofence(fence[0], fence[1]), TiltLimit(base.tilt_limit)]
        if workspace is not None:
            corners = np.array(workspace, np.float64)
            checks.append(Workspace(corners[0], corners[1], _position))
        self._limits = MotionLimits.of_flying_tool(base)
        self._rotation = np.array(pose[:3, :3], np.float64)
        self._shift, self._turn, self._now_ns = np.zeros(3), np.eye(3), 0
        start = [*pose[:3, 3], 0.0, 0.0, 0.0]
        super().__init__(
            SafetyGate(start, self._limits, period_s=period_s, config=config, checks=checks), width
        )

    @property
    def pose(self) -> Array:
        """See ``GuardedTool``."""
        return pose_matrix(self.gate.sent[:3], self._rotation)

    def tick(self, now_ns: int, base_pose: Array, *, state_ns: int | None = None) -> Array:
        """Returns the pose of the tool ``[4, 4]`` in the world to be sent now.

        Args:
            now_ns: of the tick [ns, monotonic].
            base_pose: the measured pose of the base in the world ``[4, 4]``.
            state_ns: when it was measured [ns, monotonic].
        """
        planned = self._plan.evaluate(now_ns)
        goal, turned = pose_from_vector(planned[:6]), self.gate.sent[3:]
        turn = matrix_to_axis_angle(goal[:3, :3] @ self._rotation.T)
        turn[np.abs(turn) < _ROUNDING] = 0.0  # a tool that stands does not move
        measured = {
            BASE_POSITION: base_pose[:3, 3],
            BASE_ROTATION: matrix_to_axis_angle(base_pose[:3, :3]),
        }
        sent = self.gate.filter(
            np.concatenate([goal[:3, 3], turned + turn]),
            now_ns,
            state_ns=state_ns,
            position=np.concatenate(list(measured.values())),
            measured=measured,
        )
        self._rotation = axis_angle_to_matrix(sent[3:] - turned) @ self._rotation
        self._shift, self._turn = sent[:3] - goal[:3, 3], self._rotation @ goal[:3, :3].T
        self._now_ns = now_ns
        self._went(planned)
        return self.pose

    def ahead(self, seconds: Array) -> Array:
        """Returns the way of the tool after the last tick ``[N, 9]``: positions [m] and rot6d.

        Args:
            seconds: after that tick ``[N]`` [s].
        """
        if self.gate.holding:
            positions, rotations = self._braking(seconds)
        else:
            times = [self._now_ns + seconds_to_ns(second) for second in seconds]
            poses = pose_from_vector(np.array([self._plan.evaluate(time)[:6] for time in times]))
            # As much beside the plan as now, where the gate has held something back.
            positions, rotations = poses[:, :3, 3] + self._shift, self._turn @ poses[:, :3, :3]
        return np.concatenate([positions, matrix_to_rot6d(rotations)], axis=-1)

    def _braking(self, seconds: Array) -> tuple[Array, Array]:
        """Returns where the tool is while it brakes along its path: positions ``[N, 3]``, rotations."""
        velocity = self.gate.velocity
        until_rest = max(float(np.max(np.abs(velocity) / self._limits.acceleration)), 1e-9)
        elapsed = np.minimum(seconds, until_rest)[:, None]
        way = velocity * elapsed * (1.0 - 0.5 * elapsed / until_rest)
        return self.gate.sent[:3] + way[:, :3], axis_angle_to_matrix(way[:, 3:]) @ self._rotation


def _position(set_point: NDArray[np.float64]) -> NDArray[np.float64]:
    return set_point[:3]
