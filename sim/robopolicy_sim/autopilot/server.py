"""MAVSDK as an autopilot: its MAVLink, its answers to commands, its heartbeats; what happens then is ours.

MAVSDK's own threads bring messages; ``events`` hands them over to the thread that flies.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.geometry import matrix_to_quaternion
from robopolicy_drivers.aerial.frames import swap_body, swap_rotation, swap_world
from robopolicy_drivers.control.flying_body import BaseState

SYSTEM = COMPONENT = 1
ARM, TAKE_OFF, MODE = "arm", "take_off", "mode"  # events of commands that were accepted
_RETURN, _LAND = 20, 21  # MAV_CMD_NAV_RETURN_TO_LAUNCH, _NAV_LAND: MAVSDK leaves their answers to us
_ACCEPTED = 0
_SUCCESS = 1  # of MAVSDK's results
_WATCHED = ("SET_POSITION_TARGET_LOCAL_NED", "SET_ATTITUDE_TARGET", "COMMAND_LONG")


class Event(NamedTuple):
    """What has come.

    Attributes:
        name: of a MAVLink message, or of a command that was accepted.
        value: the message's fields, or what the command asks for.
        time_ns: of its arrival [ns, monotonic].
    """

    name: str
    value: Any
    time_ns: int


class AutopilotServer:
    """See the module text.

    Args:
        address: MAVSDK's, e.g. ``"udpout://127.0.0.1:14540"``.

    Raises:
        DeviceError: MAVSDK refuses the address.
        ModuleNotFoundError: MAVSDK is not installed.
    """

    def __init__(self, address: str) -> None:
        from mavsdk.component_type import ComponentType
        from mavsdk.logging import log_subscribe
        from mavsdk.mavsdk import Configuration, Mavsdk
        from mavsdk.plugins import action_server, mavlink_direct_server, telemetry_server

        self.modes = action_server.FlightMode
        self._telemetry_words, self._direct_words = telemetry_server, mavlink_direct_server
        self._events: SimpleQueue[Event] = SimpleQueue()
        log_subscribe(lambda *_: True)  # it would write to the terminal
        self._mavsdk = Mavsdk(Configuration.create_with_component_type(ComponentType.AUTOPILOT))
        self.connect(address)
        component = self._mavsdk.server_component_by_type(ComponentType.AUTOPILOT)
        self._actions = action_server.ActionServer(component)
        self._telemetry = telemetry_server.TelemetryServer(component)
        self._direct = mavlink_direct_server.MavlinkDirectServer(component)
        self._guided_allowed: bool | None = None
        self._allowed = action_server.AllowableFlightModes
        self.allow_arming(True)
        self._actions.set_disarmable(True, True)
        self.allow_take_off(True)
        self.allow_guided(False)
        self._actions.subscribe_arm_disarm(self._accepted(ARM, lambda asked: bool(asked.arm)))
        self._actions.subscribe_takeoff(self._accepted(TAKE_OFF, bool))
        self._actions.subscribe_flight_mode_change(self._accepted(MODE, self.modes))
        self._direct.subscribe_command(_RETURN, self._answered(self.modes.RETURN_TO_LAUNCH))
        self._direct.subscribe_command(_LAND, self._answered(self.modes.LAND))
        for name in _WATCHED:
            self._direct.subscribe_message(name, self._received)

    def connect(self, address: str) -> None:
        """Opens a further connection, as for a second ground station; what comes in there is passed on."""
        from mavsdk.enums import ForwardingOption

        result = self._mavsdk.add_any_connection_with_forwarding(address, ForwardingOption.ON)
        if int(result) != 0:
            raise DeviceError(
                f"MAVSDK refuses the connection '{address}' ({result}); is another program on its port? "
                "Give e.g. udpout://127.0.0.1:14540."
            )

    def events(self) -> list[Event]:
        """Returns what has come since the last call, oldest first."""
        found = []
        while True:
            try:
                found.append(self._events.get_nowait())
            except Empty:
                return found

    def allow_arming(self, allowed: bool) -> None:
        """Whether it arms when it is asked to."""
        self._actions.set_armable(allowed, allowed)

    def allow_guided(self, allowed: bool) -> None:
        """Whether it goes over to set points when it is asked to."""
        if allowed is not self._guided_allowed:
            self._guided_allowed = allowed
            self._actions.set_allowable_flight_modes(self._allowed(True, allowed, True))

    def allow_take_off(self, allowed: bool) -> None:
        """Whether it takes off when it is asked to."""
        self._actions.set_allow_takeoff(allowed)

    def tell_mode(self, mode: int) -> None:
        """Has the heartbeats say so."""
        self._actions.set_flight_mode_internal(mode)

    def tell_armed(self, armed: bool) -> None:
        """Has the heartbeats say so."""
        self._actions.set_armed_state(armed)

    def say(self, text: str) -> None:
        """Sends a STATUSTEXT."""
        words = self._telemetry_words
        self._telemetry.publish_status_text(words.StatusText(words.StatusTextType.ERROR, text))

    def tell_landed(self, landed: bool) -> None:
        """Sends EXTENDED_SYS_STATE."""
        words = self._telemetry_words
        state = words.LandedState.ON_GROUND if landed else words.LandedState.IN_AIR
        self._telemetry.publish_extended_sys_state(words.VtolState.UNDEFINED, state)

    def tell_state(self, state: BaseState, time_ns: int) -> None:
        """Sends ATTITUDE_QUATERNION and LOCAL_POSITION_NED.

        Args:
            state: of the base, in the world (east, north, up).
            time_ns: since its start [ns].
        """
        words = self._telemetry_words
        position, velocity = swap_world(state.position).tolist(), swap_world(state.velocity).tolist()
        rotation, spin = swap_rotation(state.rotation), swap_body(state.angular_velocity).tolist()
        self._send(
            "ATTITUDE_QUATERNION",
            {
                "time_boot_ms": time_ns // 1_000_000,
                **dict(zip(("q1", "q2", "q3", "q4"), matrix_to_quaternion(rotation).tolist(), strict=True)),
                **dict(zip(("rollspeed", "pitchspeed", "yawspeed"), spin, strict=True)),
            },
        )
        self._telemetry.publish_position_velocity_ned(
            words.PositionVelocityNed(words.PositionNed(*position), words.VelocityNed(*velocity))
        )

    def close(self) -> None:
        """Ends all connections."""
        self._mavsdk.destroy()

    def _send(self, name: str, fields: Mapping[str, Any]) -> None:
        message = self._direct_words.MavlinkMessage(name, SYSTEM, COMPONENT, 0, 0, json.dumps(fields))
        self._direct.send_message(message)

    def _received(self, message: Any, _: Any) -> None:
        self._events.put(Event(message.message_name, json.loads(message.fields_json), now_ns()))

    def _accepted(self, name: str, value_of: Callable[[Any], Any]) -> Callable[[int, Any, Any], None]:
        def accepted(result: int, asked: Any, _: Any) -> None:
            if int(result) == _SUCCESS:
                self._events.put(Event(name, value_of(asked), now_ns()))

        return accepted

    def _answered(self, mode: int) -> Callable[[Any, Any], None]:
        def answered(message: Any, _: Any) -> None:
            self._acknowledge(message, _ACCEPTED)
            self._events.put(Event(MODE, mode, now_ns()))

        return answered

    def _acknowledge(self, message: Any, result: int) -> None:
        fields = {
            "command": json.loads(message.fields_json)["command"],
            "result": result,
            "progress": 255,
            "result_param2": 0,
            "target_system": message.system_id,
            "target_component": message.component_id,
        }
        self._send("COMMAND_ACK", fields)
