"""What is set of a Franka arm. Imports no SDK."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from robopolicy_datasets.errors import ConfigError
from robopolicy_drivers.arms.configs import ArmConfig
from robopolicy_drivers.hosting.facts import DeviceFacts, Evidence

_RATES = (20.0, 1000.0)  # Hz


@dataclass
class FrankaConfig(ArmConfig):
    """A Franka Research 3, streamed to by joint impedance control. Further settings: ``ArmConfig``.

    Attributes:
        rate_hz: of its control loop, 20 to 1000.
        host: address or name of the controller.
        stiffness: of the joints (7) [N m/rad]; damping is critical.
        collision_torque: of a joint beyond its expected one at which the arm's reflex stops it [N m].
        collision_force: at the tool, likewise [N].

    Raises:
        ConfigError: a number is out of its range.
    """

    link: ClassVar[str] = "robopolicy_drivers.arms.franka_link:FrankaLink"
    measures_wrench: ClassVar[bool] = True
    device: ClassVar[DeviceFacts] = DeviceFacts(
        protocol="FCI 10 (TCP and UDP), torques at 1 kHz",
        sdk="franky-control",
        rates="20 Hz to 1 kHz",
        evidence=Evidence.THIRD_PARTY_PEER,
        tested_against="franky-sim 1.0.4; franka-sim 1.1.7 with enforced limits",
    )

    embodiment: str = "fr3"
    rate_hz: float = 200.0
    host: str = "172.16.0.2"
    # The gains of libfranka's example of joint impedance control.
    stiffness: list[float] = field(default_factory=lambda: [600.0, 600.0, 600.0, 600.0, 250.0, 150.0, 50.0])
    collision_torque: float = 20.0
    collision_force: float = 30.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _RATES[0] <= self.rate_hz <= _RATES[1]:
            raise ConfigError(
                f"robot.rate_hz is {self.rate_hz}; a Franka takes {_RATES[0]:g} to {_RATES[1]:g} Hz."
            )
        if len(self.stiffness) != 7 or not all(value > 0 for value in self.stiffness):
            raise ConfigError(f"robot.stiffness is {self.stiffness}; give 7 numbers above 0 [N m/rad].")
        if not self.collision_torque > 0 or not self.collision_force > 0:
            raise ConfigError(
                f"robot.collision_torque is {self.collision_torque} N m and robot.collision_force "
                f"{self.collision_force} N; give numbers above 0."
            )

    @property
    def address(self) -> str:
        """The controller's host."""
        return self.host
