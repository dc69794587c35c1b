"""The simulated autopilot's own will: modes, set points, and what it does when they stay away.

It behaves as PX4 does in what a driver sees: it goes over to set points ("offboard") only while they come,
and where they stop it holds, and lands after a while.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from robopolicy_datasets.clock import ns_to_seconds, seconds_to_ns
from robopolicy_datasets.geometry import Array, quaternion_to_matrix
from robopolicy_drivers.aerial.frames import heading_of, swap_heading, swap_rotation, swap_world
from robopolicy_sim.autopilot.flight import (
    TIMESTEP,
    AttitudeSetPoint,
    PositionSetPoint,
    SetPoint,
    SimulatedFlight,
    VelocitySetPoint,
)
from robopolicy_sim.autopilot.server import ARM, MODE, TAKE_OFF, AutopilotServer, Event

FAIL_SAFE_S = 0.5  # without a set point until it holds
HOLD_S = 5.0  # that it then holds for until it lands
_CLIMB, _SINK, _CRUISE = 1.0, 0.7, 1.5  # [m/s]
_BELOW = -1.0  # [m] height that it sinks towards, until it stands
_NEAR = 0.1  # [m] of a goal, from which on it counts as reached
_DISARM_S = 0.5  # of standing after a landing
_ARM_COMMAND = 400  # MAV_CMD_COMPONENT_ARM_DISARM
_TAKE_OFF_COMMAND = 22  # MAV_CMD_NAV_TAKEOFF
_NO_POSITION = 0b111  # of a type mask


@dataclass
class Glide:
    """A point that moves in a straight line.

    Attributes:
        position: now (3) [m].
        goal: where it stops (3) [m].
        speed: [m/s].
        heading: that the vehicle keeps [rad].
    """

    position: Array
    goal: Array
    speed: float
    heading: float

    def set_point(self) -> SetPoint:
        """Moves on by ``TIMESTEP`` and returns where it is."""
        way = self.goal - self.position
        distance = float(np.linalg.norm(way))
        if distance < self.speed * TIMESTEP:
            self.position = self.goal
            return PositionSetPoint(self.position, self.heading)
        velocity = way * (self.speed / distance)
        self.position = self.position + TIMESTEP * velocity
        return PositionSetPoint(self.position, self.heading, velocity)


class Autopilot:
    """See the module text.

    Args:
        server: its MAVLink.
        flight: what it flies.

    Attributes:
        mode: MAVSDK's number.
        armed: whether the rotors turn.
        set_points: time stamp of the sender [ms] and arrival [ns, monotonic] of each that came.
        fail_safe_ns: when it last noticed that they stay away [ns, monotonic]; 0 for never.
    """

    def __init__(self, server: AutopilotServer, flight: SimulatedFlight) -> None:
        self.server, self.flight = server, flight
        modes = server.modes
        self.mode, self.armed = int(modes.HOLD), False
        self.set_points: list[tuple[int, int]] = []
        self.fail_safe_ns = 0
        self._set_point: SetPoint | None = None
        self._takeoff_height = 2.5
        self._glide = self._here()
        self._lands_ns = self._stood_since_ns = 0
        self._refusing = ""
        self._begins: dict[int, Callable[[], Glide]] = {
            modes.TAKEOFF: lambda: self._towards(self._takeoff_height, _CLIMB),
            modes.LAND: lambda: self._towards(_BELOW, _SINK),
            modes.RETURN_TO_LAUNCH: self._homewards,
        }
        server.tell_mode(self.mode)

    def enter(self, mode: int) -> None:
        """Goes over to a mode."""
        self.mode, self._lands_ns = int(mode), 0
        self._glide = self._begins.get(self.mode, self._here)()
        self.server.tell_mode(self.mode)

    def arm(self, armed: bool) -> None:
        """Starts or stops the rotors."""
        self.armed, self._stood_since_ns = armed, 0
        self.server.tell_armed(armed)

    def begin(self, height: float) -> None:
        """Puts it over where it began, hovering at a height [m], or standing at 0."""
        self.flight.put(np.array([0.0, 0.0, height]))
        self.arm(height > 0)
        self.enter(self.server.modes.HOLD)

    def refuse_arming(self, reason: str) -> None:
        """Does not arm from now on, and says why; an empty reason ends that."""
        self._refusing = reason
        self.server.allow_arming(not reason)

    def tick(self, now_ns: int) -> None:
        """Obeys what has come and flies for one ``TIMESTEP``."""
        for event in self.server.events():
            self._obey(event)
        age_s = ns_to_seconds(now_ns - self.set_points[-1][1]) if self.set_points else math.inf
        self.server.allow_guided(age_s < FAIL_SAFE_S)
        self._fail_safe(age_s, now_ns)
        self._go_on(now_ns)
        self.flight.advance(self._wanted())

    def _wanted(self) -> SetPoint | None:
        if not self.armed:
            return None
        guided = self.mode == self.server.modes.OFFBOARD
        return self._set_point if guided and self._set_point else self._glide.set_point()

    def _obey(self, event: Event) -> None:
        modes = self.server.modes
        if event.name == ARM and event.value is not self.armed:  # MAVSDK also tells what we have told it
            self.arm(event.value)
        elif event.name == TAKE_OFF and self.armed:
            self.enter(modes.TAKEOFF)
        elif event.name == MODE:
            self.enter(event.value)
        elif event.name == "COMMAND_LONG":
            self._hear(event.value)
        elif event.name in _SET_POINTS:
            self.set_points.append((event.value["time_boot_ms"], event.time_ns))
            self._set_point = _SET_POINTS[event.name](event.value, self.flight)

    def _hear(self, fields: dict[str, Any]) -> None:
        if fields["command"] == _TAKE_OFF_COMMAND:
            self._takeoff_height = fields["param7"]
            if self.mode == self.server.modes.TAKEOFF:  # the event of its acceptance came first
                self.enter(self.mode)
        elif fields["command"] == _ARM_COMMAND and fields["param1"] and self._refusing:
            self.server.say(self._refusing)

    def _fail_safe(self, age_s: float, now_ns: int) -> None:
        modes = self.server.modes
        if self.mode == modes.OFFBOARD and age_s > FAIL_SAFE_S:
            self.fail_safe_ns = now_ns
            self.server.say("Offboard control lost: holding")
            self.enter(modes.HOLD)
            self._lands_ns = now_ns + seconds_to_ns(HOLD_S)
        elif self._lands_ns and now_ns > self._lands_ns:
            self.enter(modes.LAND)

    def _go_on(self, now_ns: int) -> None:
        """What follows by itself: a hover after rising, a landing after returning, rest after landing."""
        modes = self.server.modes
        arrived = np.linalg.norm(self.flight.state.position - self._glide.goal) < _NEAR
        if self.mode == modes.TAKEOFF and arrived:
            self.enter(modes.HOLD)
        elif self.mode == modes.RETURN_TO_LAUNCH and arrived:
            self.enter(modes.LAND)
        if not (self.armed and self.mode == modes.LAND and self.flight.standing):
            self._stood_since_ns = now_ns
        elif now_ns - self._stood_since_ns > seconds_to_ns(_DISARM_S):
            self.arm(False)
            self.enter(modes.HOLD)

    def _here(self) -> Glide:
        state = self.flight.state
        return Glide(state.position, state.position, _CRUISE, heading_of(state.rotation))

    def _towards(self, height: float, speed: float) -> Glide:
        glide = self._here()
        glide.goal, glide.speed = np.array([*glide.position[:2], height]), speed
        return glide

    def _homewards(self) -> Glide:
        glide = self._here()
        glide.goal = np.array([0.0, 0.0, glide.position[2]])
        return glide


def _local_set_point(fields: dict[str, Any], flight: SimulatedFlight) -> SetPoint:
    velocity = swap_world(np.array([fields["vx"], fields["vy"], fields["vz"]], np.float64))
    heading = swap_heading(fields["yaw"])
    if fields["type_mask"] & _NO_POSITION:
        return VelocitySetPoint(velocity, heading)
    position = swap_world(np.array([fields["x"], fields["y"], fields["z"]], np.float64))
    return PositionSetPoint(position, heading, velocity)


def _attitude_set_point(fields: dict[str, Any], flight: SimulatedFlight) -> SetPoint:
    rotation = swap_rotation(quaternion_to_matrix(np.array(fields["q"], np.float64)))
    return AttitudeSetPoint(rotation, float(fields["thrust"]), flight.largest_force)


_SET_POINTS = {
    "SET_POSITION_TARGET_LOCAL_NED": _local_set_point,
    "SET_ATTITUDE_TARGET": _attitude_set_point,
}
