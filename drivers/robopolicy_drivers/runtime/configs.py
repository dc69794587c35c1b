"""Typed settings of the runtime. Imports no numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from robopolicy_datasets.errors import ConfigError


@dataclass
class RuntimeConfig:
    """How chunks become commands.

    Attributes:
        blending: of the rows that several chunks have for a step: ``newest`` or ``ensemble``.
        real_time_chunking: each chunk continues the one before it (needs a policy that can).
        max_speed_m: from one commanded target to the next, of a position [m/s].
        max_speed_rad: the same of a rotation, an angle or a joint [rad/s].
        hold_s: how long the last target is held where the policy has nothing new, before the robot goes back
            along the way it came [s].
        latencies_s: by feature key, how much later than the world its time stamps are [s].
        action_latency_s: how much later than commanded the robot is where it should be [s]; commands are
            given for so much earlier.
        inference_latency_s: how long an inference may take [s]. Real-time chunking reckons with it, or with
            the longest of the last five where that is longer.
    """

    blending: str = "newest"
    real_time_chunking: bool = False
    max_speed_m: float = 1.5
    max_speed_rad: float = 6.0
    hold_s: float = 2.0
    latencies_s: dict[str, float] = field(default_factory=dict)
    action_latency_s: float = 0.0
    inference_latency_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("max_speed_m", "max_speed_rad", "hold_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"runtime.{name} is {getattr(self, name)}; give a number above 0.")
        for name in ("action_latency_s", "inference_latency_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(
                    f"runtime.{name} is {getattr(self, name)}; give a number of seconds from 0."
                )
