"""Flies one vehicle in its process: who has it, its maneuvers, its gate, and the stream of set points.

Set points are streamed only while we *guide*: the vehicle is in the autopilot's mode for set points because
we asked for it, and has been heard lately. Whatever else happens, the stream ends, and with it our say: the
autopilot does what it is set to do then, and the stop latches with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, ns_to_seconds, seconds_to_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.geometry import (
    Array,
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    pose_matrix,
    pose_to_vector,
)
from robopolicy_datasets.store import Event
from robopolicy_drivers.aerial.configs import MavlinkConfig
from robopolicy_drivers.aerial.frames import heading_of, level
from robopolicy_drivers.aerial.link import MavlinkLink, Steps, pause, until
from robopolicy_drivers.aerial.set_points import SET_POINTS, Reference
from robopolicy_drivers.control.guarded_flyer import GuardedFlyer
from robopolicy_drivers.embodiments import Embodiment
from robopolicy_drivers.hosting.robot_loop import State

GUIDING = "guiding"  # key of the hidden feature: whether commands are taken
_CLIMB_SPEED = 0.5  # [m/s] where we rise by set points
_AHEAD_S = 0.2
_REACHED = 0.15  # [m] from the height at which a take-off ends
_STREAM_FIRST_S = 1.0  # of set points before PX4 goes over to them
_MANEUVER_S = 120.0
_DISARM_S = 5.0  # of standing until we stop the rotors ourselves
_TWIN_NS = seconds_to_ns(3.0)  # of silence, after which another station with our id counts as gone
_ARM = "COMPONENT_ARM_DISARM"


class Pilot:
    """The ``Controller`` of a vehicle. See the module text.

    Args:
        link: open.
        config: of the vehicle.
        embodiment: its body.

    Attributes:
        guiding: see the module text.
        outcome: of the last maneuver: None while it lasts, empty where it succeeded, else why it did not.
    """

    def __init__(self, link: MavlinkLink, config: MavlinkConfig, embodiment: Embodiment) -> None:
        self._link, self._config = link, config
        base = embodiment.flying_base
        lower, upper = _corner(config.geofence_lower), _corner(config.geofence_upper)
        self._base = replace(base, geofence_lower=lower, geofence_upper=upper)
        self._set_points = SET_POINTS[config.set_point](link, config, embodiment)
        self._guard = self._standing()
        self.guiding = False
        self.outcome: str | None = ""
        self._steps: Steps | None = None  # what is going on besides the stream
        self._maneuver = ""  # its name where it takes no commands meanwhile
        self._expected: frozenset[int] = frozenset()  # modes in the middle of a maneuver
        self._settled = False  # whether the mode for set points was reached
        self._commanded_ns = 0

    @property
    def stopped(self) -> str:
        """See ``Controller``."""
        return self._guard.gate.stopped

    def command(self, target: NDArray[np.float64], at_ns: int, now_ns: int) -> None:
        """See ``Controller``. Of the orientation the heading counts."""
        self.guide(now_ns)
        heading = heading_of(axis_angle_to_matrix(target[3:6]))
        self._go([*target[:3], 0.0, 0.0, heading], at_ns, now_ns)

    def guide(self, now_ns: int) -> None:
        """Makes the vehicle follow set points, where it flies and does not yet.

        Raises:
            DeviceError: it is stopped, stands on the ground, or is in the middle of a maneuver.
        """
        self._guard.gate.commanded(now_ns)
        if self._maneuver:
            raise DeviceError(f"The vehicle is about to {self._maneuver}; wait for that, or stop it.")
        if not self._link.vehicle.flies:
            raise DeviceError(
                "The vehicle stands on the ground and takes no commands; call take_off(height)."
            )
        if not self.guiding:
            self._hover(now_ns)

    def hold(self, now_ns: int) -> None:
        """See ``Controller``."""
        self._guard.hold(now_ns)

    def stop(self, reason: str, now_ns: int) -> None:
        """See ``Controller``. A maneuver of ours ends in a hover; what others fly is left to them."""
        self._guard.gate.stop(reason, now_ns)
        interrupted, self._maneuver = bool(self._maneuver), ""
        if interrupted:
            self.outcome = f"The vehicle was stopped: {reason}."
            if self._link.vehicle.flies:
                self._hover(now_ns)
            else:
                self.guiding, self._steps = False, self._link.command(_ARM, "stop its rotors", 0)

    def release(self) -> None:
        """See ``Controller``."""
        if trouble := self._link_trouble(now_ns()):
            raise DeviceError(f"The stop is not released: {trouble}")
        self._guard.gate.release()

    def events(self) -> Sequence[Event]:
        """See ``Controller``."""
        return [event.to_event() for event in self._guard.gate.log.events()]

    def take_off(self, height: float) -> None:
        """Begins to rise to ``height`` [m] above where it stands; ``outcome`` tells how it went.

        Raises:
            DeviceError: it is stopped, flies already, is busy, or the height is out of the geofence.
        """
        vehicle, highest = self._link.vehicle, self._config.geofence_upper[2]
        self._guard.gate.commanded(now_ns())
        if vehicle.flies:
            raise DeviceError("The vehicle flies already; command it, or land first.")
        if not 0 < height <= highest - vehicle.position[2]:
            raise DeviceError(
                f"The height is {height:g} m; give one above 0 and below the geofence, which ends "
                f"{highest - vehicle.position[2]:g} m above the vehicle."
            )
        rise = self._rise_by_set_points if self._link.autopilot.rises_by_set_points else self._rise
        self._begin("take off", rise(float(height)))

    def land(self) -> None:
        """Begins to land where it is; also where it is stopped."""
        self._begin("land", self._come_down("NAV_LAND", "land"))

    def return_home(self) -> None:
        """Begins to return to where it took off, and to land there; also where it is stopped."""
        self._begin("return home", self._come_down("NAV_RETURN_TO_LAUNCH", "return home"))

    def observe(self) -> tuple[int, State]:
        """See ``Controller``."""
        self._link.receive()
        vehicle = self._link.vehicle
        pose = pose_to_vector(vehicle.pose)
        measured: dict[str, NDArray[Any]] = {
            "robot0_eef_pos": pose[:3],
            "robot0_eef_rot_axis_angle": pose[3:],
            "robot0_base_vel": vehicle.velocity,
        }
        state = {key: value.astype(np.float32) for key, value in measured.items()}
        return vehicle.time_ns, {**state, GUIDING: np.array(self.guiding and not self._maneuver)}

    def tick(self, now_ns: int) -> None:
        """See ``Controller``."""
        self._watch(now_ns)
        self._proceed(now_ns)
        if self.guiding:
            self._set_points.send(self._reference(now_ns))

    def leave(self) -> None:
        """Hands a vehicle that we guide over to its autopilot, which holds it where it is."""
        if self.guiding:
            self._link.leave_in(self._link.autopilot.hold)
        self.guiding = False

    def _reference(self, now_ns: int) -> Reference:
        """Returns where the vehicle is commanded to be at this tick."""
        vehicle, time_ms = self._link.vehicle, now_ns // 1_000_000
        if not (self._settled or self._maneuver):
            # It does not follow yet: set points that went ahead would have it rush after them then.
            return Reference(time_ms, self._guard.pose, np.zeros(3))
        pose = self._guard.tick(now_ns, vehicle.pose, state_ns=vehicle.time_ns)
        return Reference(time_ms, pose, self._guard.gate.velocity[:3])

    def _watch(self, now_ns: int) -> None:
        """Lets go of a vehicle that is not ours any more."""
        if self.guiding or self._maneuver:
            reason = self._link_trouble(now_ns) or self._own_will() or self._neglect(now_ns)
            if reason:
                self._let_go(reason, now_ns)

    def _link_trouble(self, now_ns: int) -> str:
        """Returns what is wrong with the link; empty where nothing is."""
        if self._silence_s(now_ns) > self._config.safety.stale_state_s:
            return self._lost(now_ns)
        return self._twin() if self._has_twin(now_ns) else ""

    def _own_will(self) -> str:
        """Returns what the vehicle does that was not asked of it; empty where it does nothing such."""
        vehicle, guided = self._link.vehicle, {self._link.autopilot.guided.custom_mode}
        if self._maneuver or self._settled:
            if vehicle.custom_mode not in (self._expected if self._maneuver else guided):
                return (
                    f"the vehicle was taken over: its mode is {vehicle.mode} now; "
                    f"{self._link.who_changed_the_mode()}"
                )
            if not (self._maneuver or vehicle.flies):
                return "the vehicle does not fly any more: its rotors were stopped or it has landed"
        return ""

    def _neglect(self, now_ns: int) -> str:
        """Returns for how long no command has come, where that is too long."""
        idle_s = ns_to_seconds(now_ns - self._commanded_ns)
        if self._maneuver or idle_s <= self._config.hover_limit_s:
            return ""
        return f"no command has come for {idle_s:.1f} s (hover_limit_s); its autopilot has the vehicle"

    def _let_go(self, reason: str, now_ns: int) -> None:
        """Ends the stream of set points and latches the stop."""
        self.guiding = self._settled = False
        self._steps, self._guard.gate.velocity = None, np.zeros(6)
        if self._maneuver:
            self.outcome, self._maneuver = f"The vehicle did not {self._maneuver}: {reason}.", ""
        self._guard.gate.stop(reason, now_ns)

    def _proceed(self, now_ns: int) -> None:
        """Advances what is going on."""
        if self._steps is None:
            return
        try:
            next(self._steps)
        except StopIteration:
            self._steps = None
            if self._maneuver:
                self.outcome, self._maneuver = "", ""
        except DeviceError as error:
            self._steps = None
            if self._maneuver:
                self.outcome, self._maneuver = str(error), ""
            if self.guiding and self._link.vehicle.flies:
                self._let_go(str(error), now_ns)
            self.guiding = self._settled = False

    def _begin(self, maneuver: str, steps: Steps) -> None:
        if self._maneuver:
            raise DeviceError(f"The vehicle is about to {self._maneuver}; wait for that, or stop it.")
        self._maneuver, self._steps, self.outcome = maneuver, steps, None
        self._expected = self._link.autopilot.own | {self._link.vehicle.custom_mode}
        self._settled = False

    def _hover(self, now_ns: int) -> None:
        """Begins to guide the vehicle, where it is."""
        self._stream(now_ns)
        self._steps = self._enter_guided()

    def _stream(self, now_ns: int) -> None:
        """Begins to stream set points, where the vehicle is."""
        before = self._guard.gate
        self._guard = self._standing()
        self._guard.gate.log, self._guard.gate.stopped = before.log, before.stopped
        self.guiding, self._settled, self._commanded_ns = True, False, now_ns

    def _enter_guided(self) -> Steps:
        yield from pause(_STREAM_FIRST_S if self._link.autopilot.rises_by_set_points else 0.1)
        yield from self._link.set_mode(self._link.autopilot.guided, "follow set points")
        self._settled = True

    def _rise(self, height: float) -> Steps:
        """Takes off by the autopilot's own command, and then goes over to set points."""
        link, goal = self._link, self._link.vehicle.position[2] + height
        if link.autopilot.guided_before_arming:
            yield from link.set_mode(link.autopilot.guided, "take commands")
        yield from self._arm()
        yield from link.command("NAV_TAKEOFF", "take off", 0, 0, 0, 0, 0, 0, height)
        yield from self._until_at(goal)
        self._stream(now_ns())
        yield from self._enter_guided()

    def _rise_by_set_points(self, height: float) -> Steps:
        here = self._link.vehicle.position
        self._stream(now_ns())
        x, y, ground, *_, heading = self._level_pose()
        yield from self._enter_guided()
        yield from self._arm()
        begun = now_ns()
        while (risen := _CLIMB_SPEED * (ns_to_seconds(now_ns() - begun) + _AHEAD_S)) < height:
            self._go([x, y, ground + risen, 0.0, 0.0, heading], now_ns() + seconds_to_ns(_AHEAD_S), now_ns())
            yield
        self._go([x, y, ground + height, 0.0, 0.0, heading], now_ns() + seconds_to_ns(_AHEAD_S), now_ns())
        yield from self._until_at(here[2] + height)

    def _come_down(self, command: str, what: str) -> Steps:
        """Has the autopilot bring the vehicle down, and waits until it stands and its rotors rest."""
        vehicle = self._link.vehicle
        yield from self._link.command(command, what)
        self.guiding = self._settled = False
        yield from until(lambda: not vehicle.flies, _MANEUVER_S, what, vehicle)
        stands_ns = now_ns()
        while vehicle.armed and now_ns() - stands_ns < seconds_to_ns(_DISARM_S):
            yield
        if vehicle.armed:
            yield from self._link.command(_ARM, "stop its rotors", 0)
        yield from until(lambda: not vehicle.armed, _DISARM_S, "stop its rotors", vehicle)

    def _arm(self) -> Steps:
        vehicle = self._link.vehicle
        yield from self._link.command(_ARM, "start its rotors", 1)
        yield from until(lambda: vehicle.armed, 3.0, "start its rotors", vehicle)

    def _until_at(self, height: float) -> Steps:
        vehicle = self._link.vehicle
        yield from until(
            lambda: vehicle.flies and abs(vehicle.position[2] - height) < _REACHED,
            _MANEUVER_S,
            f"rise to {height:.2f} m",
            vehicle,
        )

    def _go(self, target: Sequence[float], at_ns: int, now_ns: int) -> None:
        self._commanded_ns = now_ns
        self._guard.command([*target, 0.0], at_ns, now_ns)  # no gripper

    def _standing(self) -> GuardedFlyer:
        """Returns what guards the vehicle from where it is."""
        pose = self._link.vehicle.pose
        pose = pose_matrix(pose[:3, 3], level(heading_of(pose)))
        period_s = 1.0 / self._config.rate_hz
        return GuardedFlyer(self._base, pose, 0.0, period_s=period_s, config=self._config.safety)

    def _level_pose(self) -> Array:
        pose = self._guard.pose
        return np.array([*pose[:3, 3], *matrix_to_axis_angle(pose[:3, :3])])

    def _silence_s(self, now_ns: int) -> float:
        return ns_to_seconds(now_ns - min(self._link.heard_ns, self._link.vehicle.time_ns))

    def _lost(self, now_ns: int) -> str:
        config = self._config
        return (
            f"the link is lost: the vehicle (system {config.system_id} on {config.address}) has not told "
            f"where it is for {self._silence_s(now_ns):.2f} s (allowed: {config.safety.stale_state_s:g} s). "
            "Set points are not sent any more, so it does what its autopilot is set to do then. See to the "
            "radio"
        )

    def _has_twin(self, now_ns: int) -> bool:
        return self._link.twin_ns > 0 and now_ns - self._link.twin_ns < _TWIN_NS

    def _twin(self) -> str:
        config = self._config
        return (
            f"another station with our own id (system {config.station_id}, component "
            f"{config.station_component_id}) is on the link: end it, or connect again with another "
            "robot.station_id"
        )


def _corner(position: Sequence[float]) -> tuple[float, float, float]:
    x, y, z = position
    return x, y, z
