"""Configs of the scripted experts; this module imports neither mujoco nor gymnasium."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass
class ScriptedConfig:
    """Demonstrations by a scripted expert that knows where everything is.

    Attributes:
        disturbance: scale of the noise added to executed actions, while the recorded ones stay clean;
            1 is about 1.2 cm when moving and 0.6 cm near the objects, 0 is none.
        recovery_rate: share of episodes in which the gripper is made to miss or lose something once.
    """

    target: ClassVar[str] = "robopolicy_sim.experts.collecting:collect"
    needs: ClassVar[str] = "expert"  # what the config of a task must name

    disturbance: float = 1.0
    recovery_rate: float = 0.15
