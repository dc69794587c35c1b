"""What the settings of all grippers have in common. Imports no numpy and no SDK."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from robopolicy_datasets.errors import ConfigError
from robopolicy_drivers.safety.configs import SafetyConfig

Range = tuple[float, float]


@dataclass
class GripperConfig:
    """Settings of a gripper. A vendor's class names its ``link``, its ``address`` and its ranges.

    Attributes:
        rate_hz: of its control loop.
        speed: of the fingers, each other's approach [m/s].
        force: that they grip with [N].
        safety: what the safety gate does.
    """

    target: ClassVar[str] = "robopolicy_drivers.grippers.gripper:HostedGripper"
    link: ClassVar[str]
    """``"module:Class"`` of the vendor's ``GripperLink``."""

    rate_hz: float = 50.0
    speed: float = 0.1
    force: float = 40.0
    safety: SafetyConfig = field(default_factory=SafetyConfig)

    @property
    def address(self) -> str:
        """Where the gripper is, the same for every program that could move it."""
        raise NotImplementedError

    @property
    def openings(self) -> Range:
        """The smallest and the largest opening [m]."""
        raise NotImplementedError


def require_within(name: str, value: float, allowed: Range, unit: str) -> None:
    """Refuses a setting outside of a range.

    Raises:
        ConfigError: it is.
    """
    low, high = allowed
    if not low <= value <= high:
        raise ConfigError(f"{name} is {value:g} {unit}; this gripper takes {low:g} to {high:g} {unit}.")
