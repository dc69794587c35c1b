"""Settings of vehicles under an autopilot. Imports no numpy and no vendor's package."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from robopolicy_datasets.errors import ConfigError, unknown_name
from robopolicy_drivers.aerial.autopilots import AUTOPILOTS
from robopolicy_drivers.hosting.facts import DeviceFacts, Evidence
from robopolicy_drivers.safety.configs import SafetyConfig
from robopolicy_drivers.setting_checks import require_numbers

SET_POINTS = ("position", "velocity", "attitude")
DETECTED = "auto"
_SLOWEST_HZ = 2.0  # of set points, below which PX4 does not follow them


@dataclass
class MavlinkConfig:
    """A multirotor under an autopilot that speaks MAVLink.

    Attributes:
        address: in pymavlink's words: udpin:HOST:PORT (wait for the vehicle), udpout:HOST:PORT,
            tcp:HOST:PORT, or a serial port such as /dev/ttyACM0.
        baud: of a serial port.
        system_id: of the vehicle.
        component_id: of its autopilot.
        station_id: our own system id; of all stations on the link, each has one of its own.
        station_component_id: our own component id.
        autopilot: px4, ardupilot or generic; auto takes what the vehicle says.
        set_point: what is streamed: position (with velocity and heading), velocity (with heading) or attitude
            (with thrust).
        hover_thrust: share of the largest thrust that carries the vehicle, for set_point=attitude.
        embodiment: name or file of the vehicle's body; one that flies.
        rate_hz: of set points, and asked for of states.
        geofence_lower: lowest corner of the box that it stays in, from where its local position is 0 (3) [m]:
            east, north, up.
        geofence_upper: its highest corner (3) [m].
        hover_limit_s: time without a command after which the stream of set points ends and the autopilot does
            what it is set to do then [s].
        safety: what the safety gate does where a limit is exceeded. A state older than stale_state_s counts
            as a lost link.

    Raises:
        UnknownNameError: there is no such autopilot or kind of set point.
        ConfigError: an id is not within 1 to 255, or a number is out of its range.
    """

    target: ClassVar[str] = "robopolicy_drivers.aerial.vehicle:MavlinkVehicle"
    device: ClassVar[DeviceFacts] = DeviceFacts(
        protocol="MAVLink 2 over UDP, TCP or serial",
        sdk="pymavlink",
        rates="50 Hz set points and states",
        evidence=Evidence.THIRD_PARTY_PEER,
        tested_against="MAVSDK 4.1.0 as the autopilot, with simulated dynamics",
        modules=("pymavlink",),
    )

    address: str = "udpin:0.0.0.0:14540"
    baud: int = 921600
    system_id: int = 1
    component_id: int = 1
    station_id: int = 245
    station_component_id: int = 191
    autopilot: str = DETECTED
    set_point: str = "position"
    hover_thrust: float = 0.5
    embodiment: str = "quadrotor"
    rate_hz: float = 50.0
    geofence_lower: list[float] = field(default_factory=lambda: [-3.0, -3.0, -1.0])
    geofence_upper: list[float] = field(default_factory=lambda: [3.0, 3.0, 3.0])
    hover_limit_s: float = 30.0
    safety: SafetyConfig = field(default_factory=lambda: SafetyConfig(stale_state_s=0.5))

    def __post_init__(self) -> None:
        if self.autopilot not in (DETECTED, *AUTOPILOTS):
            raise unknown_name("autopilot", self.autopilot, (DETECTED, *AUTOPILOTS))
        if self.set_point not in SET_POINTS:
            raise unknown_name("set point", self.set_point, SET_POINTS)
        for name in ("system_id", "component_id", "station_id", "station_component_id"):
            if not 1 <= getattr(self, name) <= 255:
                raise ConfigError(f"robot.{name} is {getattr(self, name)}; give 1 to 255.")
        for name in ("geofence_lower", "geofence_upper"):
            require_numbers(f"robot.{name}", getattr(self, name), 3)
        if not (self.rate_hz > _SLOWEST_HZ and self.hover_limit_s > 0 and 0 < self.hover_thrust < 1):
            raise ConfigError(
                f"robot.rate_hz is {self.rate_hz}, hover_limit_s {self.hover_limit_s} and hover_thrust "
                f"{self.hover_thrust}; give a rate above {_SLOWEST_HZ:g} Hz, a limit above 0, and a thrust "
                "between 0 and 1."
            )
