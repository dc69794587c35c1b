"""Joints that follow targets which move at chosen speeds: a linear model, solved exactly over many steps."""

from __future__ import annotations

import numpy as np

from robopolicy_datasets.geometry import Array
from robopolicy_drivers.embodiments import Embodiment


class JointLag:
    """Joint positions follow their targets as a first-order lag: ``q' = (target - q) / time constant``.

    A stiff, damped position servo does so: its torque ``stiffness (target - q) - damping q'`` is near 0 where
    the joint is light, which leaves the time constant damping / stiffness. A target moves at one speed in a
    step.

    Args:
        embodiment: the robot's body, with J joints.
        steps: N.
        step_s: time of a step [s].

    Attributes:
        time_constants: of the joints ``[J]`` [s].
        position_matrix: the joints after each step by the targets' speeds in each ``[N * J, N * J]`` [s].
        target_matrix: the same of the targets ``[N * J, N * J]`` [s].
    """

    def __init__(self, embodiment: Embodiment, steps: int, step_s: float) -> None:
        joints = embodiment.joints
        self.time_constants = np.array([joint.damping / joint.stiffness for joint in joints])
        fade = np.exp(-step_s / self.time_constants)
        self._fades = fade ** np.arange(1, steps + 1)[:, None]
        # How far a joint is, some steps after one in which its target moved at speed 1: it ends up at step_s.
        left = self.time_constants * (1.0 - fade)
        moved = step_s - left * fade ** np.arange(steps)[:, None]
        self.position_matrix = _causal(moved)
        self.target_matrix = _causal(np.full_like(moved, step_s))

    def free_response(self, positions: Array, targets: Array) -> Array:
        """Returns joint positions ``[B, N, J]`` [rad] after each step while the targets stand.

        Args:
            positions: now ``[B, J]`` [rad].
            targets: now ``[B, J]`` [rad].
        """
        return targets[:, None] + self._fades * (positions - targets)[:, None]


def _causal(responses: Array) -> Array:
    """Returns ``[N * J, N * J]``: the response ``[N, J]`` to each step, at and after it."""
    steps, joints = responses.shape
    matrix = np.zeros((steps, joints, steps, joints))
    for step in range(steps):
        for joint in range(joints):
            matrix[step:, joint, step, joint] = responses[: steps - step, joint]
    return matrix.reshape(steps * joints, steps * joints)
