"""What is set of a Franka Hand. Imports no SDK."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from robopolicy_drivers.grippers.configs import GripperConfig, Range, require_within
from robopolicy_drivers.hosting.facts import DeviceFacts, Evidence
from robopolicy_drivers.safety.configs import SafetyConfig

STROKE = 0.08  # m
_SPEEDS, _FORCES = (0.005, 0.1), (1.0, 70.0)  # m/s; N, that it can exert for long


@dataclass
class FrankaHandConfig(GripperConfig):
    """A Franka Hand, behind the controller of its arm. Further settings: ``GripperConfig``.

    Attributes:
        host: address or name of the controller.
        homing: whether connecting moves the fingers to both ends, which they need once after they were
            switched on or changed.

    Raises:
        ConfigError: a number is out of its range.
    """

    link: ClassVar[str] = "robopolicy_drivers.grippers.franka_hand_link:FrankaHandLink"
    device: ClassVar[DeviceFacts] = DeviceFacts(
        protocol="FCI 10 (TCP and UDP)",
        sdk="franky-control",
        rates="loop 50 Hz; one motion after another",
        evidence=Evidence.THIRD_PARTY_PEER,
        tested_against="franky-sim 1.0.4",
    )

    # A hand tells its state less often than an arm.
    safety: SafetyConfig = field(default_factory=lambda: SafetyConfig(stale_state_s=0.5))
    host: str = "172.16.0.2"
    homing: bool = False

    def __post_init__(self) -> None:
        require_within("speed", self.speed, _SPEEDS, "m/s")
        require_within("force", self.force, _FORCES, "N")

    @property
    def address(self) -> str:
        """See ``GripperConfig``."""
        return f"franka-{self.host}"

    @property
    def openings(self) -> Range:
        """See ``GripperConfig``."""
        return 0.0, STROKE
