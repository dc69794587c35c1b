"""Settings of the SO-101 arm. Imports no numpy and no vendor's package."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from robopolicy_datasets.errors import ConfigError
from robopolicy_drivers.arms.configs import ArmConfig
from robopolicy_drivers.hosting.facts import DeviceFacts, Evidence
from robopolicy_drivers.safety.configs import SafetyConfig

_UNCHANGED_S = 0.5  # a joint that moves slowly needs so long for a count, and is not frozen


@dataclass
class So101Config(ArmConfig):
    """An SO-101 follower arm with its gripper. Further settings: ``ArmConfig``.

    Attributes:
        port: the serial port of its bus, best by its stable name under /dev/serial/by-id.
        calibration: file of its joints, made by robopolicy devices calibrate joints.
        gripper_torque: of the gripper's servo, as a share of what it can (0 to 1).
        silence_s: how long answers may be missing until the bus counts as broken [s].
        reversed: names of the joints whose counts fall as their angle grows; used by their calibration.
    """

    target: ClassVar[str] = "robopolicy_drivers.arms.gripping_arm:GrippingArm"
    link: ClassVar[str] = "robopolicy_drivers.arms.feetech:FeetechLink"
    joint_calibration: ClassVar[str] = "robopolicy_drivers.arms.feetech_calibration:JointRecording"
    device: ClassVar[DeviceFacts] = DeviceFacts(
        protocol="Feetech STS, half-duplex serial, 1 Mbaud",
        sdk="feetech-servo-sdk",
        rates="loop 100 Hz",
        evidence=Evidence.OWN_EMULATOR,
        tested_against="own servo bus on a pseudo terminal",
        modules=("scservo_sdk", "serial"),
    )

    embodiment: str = "so101"
    rate_hz: float = 100.0
    safety: SafetyConfig = field(default_factory=lambda: SafetyConfig(stale_state_s=_UNCHANGED_S))
    port: str = "/dev/ttyACM0"
    calibration: str = "so101.json"
    gripper_torque: float = 0.5
    silence_s: float = 0.2
    reversed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.gripper_torque <= 1:
            raise ConfigError(f"gripper_torque is {self.gripper_torque}; give a share above 0, at most 1.")

    @property
    def address(self) -> str:
        """See ``ArmConfig``."""
        return self.port
