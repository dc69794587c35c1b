"""Joint impedance: torques like those of springs and dampers, which come with a lag.

It has commands only: how far an arm stays from a reference of the tool depends first on its inverse
kinematics, and ``DifferentialIK.cost_and_grad`` has that.
"""

from __future__ import annotations

import numpy as np

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.geometry import Array
from robopolicy_drivers.embodiments import Embodiment


class JointImpedance:
    """See the module text. Batched over any leading axes; it keeps no state.

    Args:
        embodiment: whose joints' stiffness, damping and effort limits it takes.
        period_s: time until the next call [s].
        time_constant: of the torques' first-order lag behind their command; 0 for none [s].

    Raises:
        ConfigError: the period is not above 0, or the time constant below 0.
    """

    def __init__(self, embodiment: Embodiment, *, period_s: float, time_constant: float = 0.0) -> None:
        if not (period_s > 0 and time_constant >= 0):
            raise ConfigError(
                f"JointImpedance got period_s={period_s}, time_constant={time_constant}; give a period above "
                "0 and a time constant of 0 or more."
            )
        self._stiffness = np.array([joint.stiffness for joint in embodiment.joints])
        self._damping = np.array([joint.damping for joint in embodiment.joints])
        self._limits = embodiment.effort_limits
        self._kept = np.exp(-period_s / time_constant) if time_constant else 0.0

    def command(
        self, targets: Array, positions: Array, velocities: Array, *, support: Array | float = 0.0
    ) -> Array:
        """Returns the torques to command ``[..., J]`` [N m], within the effort limits.

        Args:
            targets: where the springs pull to ``[..., J]`` [rad].
            positions: of the joints ``[..., J]`` [rad].
            velocities: of the joints ``[..., J]`` [rad/s].
            support: torque to add, such as that against the arm's weight ``[..., J]`` [N m].
        """
        torque = self._stiffness * (targets - positions) - self._damping * velocities + support
        return np.clip(torque, -self._limits, self._limits)

    def lag(self, command: Array, torque: Array) -> Array:
        """Returns the torques ``[..., J]`` [N m] that act a period later.

        Args:
            command: held meanwhile ``[..., J]`` [N m].
            torque: that acts now ``[..., J]`` [N m].
        """
        return command + self._kept * (torque - command)
