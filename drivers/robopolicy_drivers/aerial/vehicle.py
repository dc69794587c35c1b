"""A multirotor under an autopilot that speaks MAVLink, as a guarded robot."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.geometry import axis_angle_to_matrix
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.aerial.configs import MavlinkConfig
from robopolicy_drivers.aerial.frames import heading_of
from robopolicy_drivers.aerial.link import MavlinkLink
from robopolicy_drivers.aerial.pilot import GUIDING, Pilot
from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_drivers.hosting.robot import HostedRobot
from robopolicy_drivers.hosting.robot_loop import ControllerLoop
from robopolicy_drivers.realtime.child import DeviceChannel
from robopolicy_drivers.realtime.scheduling import request_punctuality

_LOOK_S = 0.05  # between two looks at how a maneuver goes


class MavlinkVehicle(HostedRobot):
    """An ``AerialVehicle``: its action is the pose of its base in the world, of which it takes the heading.

    The world's axes point east, north and up from where the vehicle's local position is 0; those of the base
    forward, left and up. On the ground it takes no commands. Where it flies already, the first command makes
    it follow us.

    Args:
        config: the settings.

    Raises:
        UnknownNameError: there is no such embodiment.
        ConfigError: the embodiment does not fly.

    Attributes:
        config: as given.
        embodiment: its mass and limits.
    """

    def __init__(self, config: MavlinkConfig) -> None:
        self.config, self.embodiment = config, load_embodiment(config.embodiment)
        self.embodiment.flying_base  # noqa: B018 (is refused here, and not in the process to come)
        super().__init__(
            "robopolicy_drivers.aerial.vehicle:fly",
            {"config": config},
            _spec(config.rate_hz),
            name=f"vehicle {config.system_id} at {config.address}",
            claim=f"mavlink-{config.system_id}-{config.address.replace('/', '_')}",
            safety=config.safety,
            rate_hz=config.rate_hz,
            hidden=(Feature(GUIDING, (), "bool"),),
        )

    def command(self, target: NDArray, at_ns: int) -> NDArray:
        """See ``HostedRobot``; DeviceError also where it stands, or is in the middle of a maneuver."""
        self._checked(target)
        if not self._newest().data[GUIDING]:
            self._running().request("guide")
        return super().command(target, at_ns)

    def take_off(self, height: float) -> None:
        """Starts the rotors and rises; returns when it hovers ``height`` [m] above the ground.

        Raises:
            DeviceError: it does not, with the vehicle's own reason; or it flies already, or is stopped.
        """
        self._perform("take_off", float(height))

    def land(self) -> None:
        """Sinks where it is; returns when it stands and the rotors rest.

        Raises:
            DeviceError: it does not, with the vehicle's own reason.
        """
        self._perform("land")

    def return_home(self) -> None:
        """Flies to where it took off and lands there, as its autopilot does; returns when the rotors rest.

        Raises:
            DeviceError: it does not, with the vehicle's own reason.
        """
        self._perform("return_home")

    def _perform(self, maneuver: str, payload: Any = None) -> None:
        self._running().request(maneuver, payload)
        while (outcome := self._running().request("outcome")) is None:
            time.sleep(_LOOK_S)
        if outcome:
            raise DeviceError(outcome)

    def _admitted(self, target: NDArray[np.float64]) -> NDArray[np.float64]:
        heading = heading_of(axis_angle_to_matrix(target[3:]))
        return np.array([*target[:3], 0.0, 0.0, heading])


def fly(channel: DeviceChannel, config: MavlinkConfig) -> None:
    """Opens the link and flies the vehicle through its gate until the channel closes."""
    link = MavlinkLink(config)
    try:
        link.open()
        pilot = Pilot(link, config, load_embodiment(config.embodiment))
        loop = ControllerLoop(channel, pilot, config.rate_hz)
        loop.requests |= {
            "guide": lambda _: pilot.guide(loop.loop.deadline_ns),
            "take_off": pilot.take_off,
            "land": lambda _: pilot.land(),
            "return_home": lambda _: pilot.return_home(),
            "outcome": lambda _: pilot.outcome,
        }
        request_punctuality()
        loop.publish()
        channel.ready()
        loop.run()
        pilot.leave()
    finally:
        link.close()


def _spec(rate_hz: float) -> Spec:
    def feature(key: str, size: int, kind: str, unit: str) -> Feature:
        return Feature(key, (size,), kind=kind, unit=unit, rate_hz=rate_hz, frame="world")

    return Spec(
        (
            feature("robot0_eef_pos", 3, "position", "m"),
            feature("robot0_eef_rot_axis_angle", 3, "axis_angle", "rad"),
            feature("robot0_base_vel", 3, "generic", "m/s"),
        ),
        (feature("action", 6, "pose", "m, rad"),),
    )
