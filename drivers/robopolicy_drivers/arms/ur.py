"""Settings of Universal Robots arms. Imports neither numpy nor ur_rtde."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from robopolicy_datasets.errors import ConfigError
from robopolicy_drivers.arms.configs import ArmConfig
from robopolicy_drivers.hosting.facts import DeviceFacts, Evidence
from robopolicy_drivers.setting_checks import require_numbers


@dataclass
class UrConfig(ArmConfig):
    """A Universal Robots arm (CB3 or e-Series) on the network. Further settings: ``ArmConfig``.

    Attributes:
        rate_hz: of its control loop; at most 500 for an e-Series, 125 for a CB3.
        host: address or name of the controller.
        lookahead: of servoj, which smooths by about this time [s] (0.03 to 0.2).
        gain: of servoj, how hard the arm follows (100 to 2000).
        payload: mass at the flange [kg]; 0 leaves what the pendant says.
        payload_center: its center of mass from the flange (3) [m].
        largest_lag: of the arm behind its set points; beyond it the stop latches [rad].

    Raises:
        ConfigError: a number is out of its range.
    """

    link: ClassVar[str] = "robopolicy_drivers.arms.ur_link:UrLink"
    measures_wrench: ClassVar[bool] = True
    device: ClassVar[DeviceFacts] = DeviceFacts(
        protocol="RTDE 2, dashboard and URScript over TCP",
        sdk="ur-rtde",
        rates="up to 500 Hz (e-Series), 125 Hz (CB3)",
        evidence=Evidence.OWN_EMULATOR,
        tested_against="tests/drivers/emulators/ur_controller.py",
        modules=("rtde_control", "rtde_receive", "dashboard_client"),
    )

    embodiment: str = "ur5e"
    host: str = "192.168.0.2"
    lookahead: float = 0.1
    gain: float = 300.0
    payload: float = 0.0
    payload_center: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    largest_lag: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.03 <= self.lookahead <= 0.2 or not 100.0 <= self.gain <= 2000.0:
            raise ConfigError(
                f"robot.lookahead is {self.lookahead} s and robot.gain {self.gain}; servoj takes 0.03 to "
                "0.2 s and 100 to 2000."
            )
        if self.payload < 0.0 or not self.largest_lag > 0.0 or self.rate_hz > 500.0:
            raise ConfigError(
                f"robot.payload is {self.payload} kg, robot.largest_lag {self.largest_lag} rad and "
                f"robot.rate_hz {self.rate_hz}; give a payload of at least 0, a lag above 0 and at most "
                "500 Hz."
            )
        require_numbers("robot.payload_center", self.payload_center, 3)

    @property
    def address(self) -> str:
        """The controller's host."""
        return self.host
