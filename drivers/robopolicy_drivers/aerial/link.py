"""The MAVLink connection to one vehicle, in the process that owns it: what it says, and what it is told.

Nothing here waits except ``open``. A dialogue, such as a command and its answer, is a generator of ``Steps``:
it is advanced once a tick until it ends, or raises DeviceError.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from typing import Any

import numpy as np

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.geometry import Array, quaternion_to_matrix
from robopolicy_drivers.aerial.autopilots import AUTOPILOTS, Autopilot, Mode, autopilot_numbered
from robopolicy_drivers.aerial.configs import DETECTED, MavlinkConfig
from robopolicy_drivers.aerial.connection import import_mavutil, open_connection
from robopolicy_drivers.aerial.frames import swap_rotation, swap_world
from robopolicy_drivers.aerial.vehicle_state import VehicleState
from robopolicy_drivers.hosting.device_clock import DeviceClock

Steps = Generator[None, None, None]

_OPEN_S = 10.0  # until the vehicle has been heard and says where it is
_HEARTBEAT_NS = seconds_to_ns(1.0)
_ASK_AGAIN_NS = seconds_to_ns(0.5)
_ANSWER_S, _ATTEMPTS = 1.0, 4  # of a command; who answers "not now" is asked again
_AFTERTHOUGHT_S = 0.3  # in which the reason of a refusal comes
_RECENT_NS = seconds_to_ns(5.0)
_CUSTOM_MODE = 1  # MAV_MODE_FLAG_CUSTOM_MODE_ENABLED
_FIXED_WING = 1  # MAV_TYPE


class MavlinkLink:
    """See the module text.

    Args:
        config: of the vehicle.

    Attributes:
        vehicle: what it says of itself.
        autopilot: how it is spoken to; from ``open`` on.
        heard_ns: when it was heard last [ns, monotonic].
        twin_ns: when another station with our own id was heard last [ns, monotonic]; 0 for never.
    """

    def __init__(self, config: MavlinkConfig) -> None:
        self._config, self.vehicle = config, VehicleState()
        self.autopilot: Autopilot
        self.heard_ns = self.twin_ns = 0
        self._connection: Any = None
        self._words: Any = None  # pymavlink's module of messages
        self._beaten_ns = 0
        self._clock = DeviceClock()
        self._answers: dict[int, int] = {}
        self._texts: deque[tuple[int, str]] = deque(maxlen=20)
        self._strangers: dict[tuple[int, int], str] = {}  # who else was heard: system, component, and what
        self._mode_changes: tuple[int, str] = (0, "")  # by another station: when, and who
        self._first: Any = None  # heartbeat of the vehicle
        self._handlers: Mapping[str, Callable[[Any, int], None]] = {
            "HEARTBEAT": self._heartbeat,
            "LOCAL_POSITION_NED": self._local_position,
            "ATTITUDE_QUATERNION": self._attitude,
            "EXTENDED_SYS_STATE": self._extended_state,
            "STATUSTEXT": self._status_text,
            "COMMAND_ACK": self._acknowledged,
        }

    def open(self) -> None:
        """Opens the port and waits for the vehicle; nothing moves.

        Raises:
            MissingExtraError: pymavlink is not installed.
            DeviceError: the port cannot be used, or no vehicle answers that could be flown; with what to do.
        """
        config = self._config
        self._connection, self._words = open_connection(config)
        self._await(lambda: self._first is not None, self._nobody)
        if self._first.type == _FIXED_WING:
            raise DeviceError(f"System {config.system_id} is a fixed wing; this driver flies multirotors.")
        named = config.autopilot
        self.autopilot = AUTOPILOTS[autopilot_numbered(self._first.autopilot) if named == DETECTED else named]
        self._await(lambda: not self._unsaid(), self._nowhere, self._ask_for_streams)
        self._refuse_twin()

    def receive(self) -> None:
        """Takes in all that has come, and shows our sign of life once a second.

        Raises:
            DeviceError: a serial line or a TCP connection was cut. (UDP only falls silent.)
        """
        arrival_ns = now_ns()
        try:
            while (message := self._connection.recv_msg()) is not None:
                self._take(message, arrival_ns)
        except OSError as error:
            raise DeviceError(
                f"The connection {self._config.address} was cut: {error}. Set points are not sent any more, "
                "so the vehicle does what its autopilot is set to do then. Mend it, and connect again."
            ) from error
        if arrival_ns - self._beaten_ns >= _HEARTBEAT_NS:
            self._beaten_ns = arrival_ns
            words = self._words
            kind, state = words.MAV_TYPE_ONBOARD_CONTROLLER, words.MAV_STATE_ACTIVE
            self._connection.mav.heartbeat_send(kind, words.MAV_AUTOPILOT_INVALID, 0, 0, state)

    def command(self, name: str, what: str, *parameters: float) -> Steps:
        """Sends a command until it is accepted.

        Args:
            name: of a ``MAV_CMD``, without that prefix.
            what: is to be done, for messages.
            parameters: up to seven.

        Raises:
            DeviceError: it was refused, with the vehicle's own words, or not answered.
        """
        number = int(getattr(self._words, f"MAV_CMD_{name}"))
        self._answers.pop(number, None)  # of whoever asked before
        begun_ns, result, attempt = now_ns(), None, 0
        for attempt in range(_ATTEMPTS):
            self._send_command(number, attempt, parameters)
            result = yield from self._answer(number)
            if result == self._words.MAV_RESULT_ACCEPTED:
                return
            if result not in (None, self._words.MAV_RESULT_TEMPORARILY_REJECTED):
                break
        yield from pause(_AFTERTHOUGHT_S)
        told = self.texts_since(begun_ns)
        answer = "did not answer" if result is None else f"answered {self._name('MAV_RESULT', result)}"
        raise DeviceError(
            f"The vehicle was asked to {what} and {answer}"
            + (f', saying: "{told}".' if told else f" ({attempt + 1} times, without a reason).")
            + " See what its own ground station says; mend that, and ask again."
        )

    def set_mode(self, mode: Mode, what: str) -> Steps:
        """Changes the mode and waits until the vehicle says that it is in it; raises as ``command``."""
        yield from self.command("DO_SET_MODE", what, _CUSTOM_MODE, mode.main, mode.sub)
        yield from until(lambda: self.vehicle.custom_mode == mode.custom_mode, 3.0, what, self.vehicle)

    def leave_in(self, mode: Mode) -> None:
        """Asks for a mode without waiting for the answer: the last that the vehicle hears of us."""
        number = int(self._words.MAV_CMD_DO_SET_MODE)
        for attempt in range(2):
            self._send_command(number, attempt, (_CUSTOM_MODE, mode.main, mode.sub))

    def send_local(self, time_ms: int, mask: int, position: Array, velocity: Array, yaw: float) -> None:
        """Sends ``SET_POSITION_TARGET_LOCAL_NED``.

        Args:
            time_ms: of the set point, on our clock [ms].
            mask: what of it counts.
            position: (3) [m]: north, east, down.
            velocity: (3) [m/s], likewise.
            yaw: from north to the east [rad].
        """
        config, frame = self._config, self._words.MAV_FRAME_LOCAL_NED
        self._connection.mav.set_position_target_local_ned_send(
            time_ms % 2**32,
            *(config.system_id, config.component_id, frame, mask),
            *(*position.tolist(), *velocity.tolist(), 0.0, 0.0, 0.0, yaw, 0.0),
        )

    def send_attitude(self, time_ms: int, quaternion: Array, thrust: float) -> None:
        """Sends ``SET_ATTITUDE_TARGET``.

        Args:
            time_ms: of the set point, on our clock [ms].
            quaternion: (4, wxyz) from forward, right, down to north, east, down.
            thrust: share of the largest.
        """
        config, rates_do_not_count = self._config, 0b111
        self._connection.mav.set_attitude_target_send(
            time_ms % 2**32,
            *(config.system_id, config.component_id, rates_do_not_count),
            *(quaternion.tolist(), 0.0, 0.0, 0.0, thrust),
        )

    def texts_since(self, time_ns: int) -> str:
        """Returns what the vehicle has said to people since a time [ns, monotonic]."""
        return "; ".join(text for heard_ns, text in self._texts if heard_ns >= time_ns)

    def who_changed_the_mode(self) -> str:
        """Returns, for people, who it was that changed the mode lately."""
        time_ns, who = self._mode_changes
        if who and now_ns() - time_ns < _RECENT_NS:
            return f"station {who}, whose command was acknowledged"
        said = self.texts_since(now_ns() - _RECENT_NS)
        told = f', which said "{said}"' if said else ""
        others = f"; heard on the link besides: {self._heard()}" if self._strangers else ""
        return f"it was the pilot's switch, the autopilot itself{told}, or a station unseen here{others}"

    def close(self) -> None:
        """Closes the port, however far ``open`` came."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _await(
        self, there: Callable[[], bool], problem: Callable[[], str], ask: Callable[[], None] | None = None
    ) -> None:
        """Waits until something is there; asks for it again and again, for a radio may lose a request."""
        deadline_ns, asked_ns = now_ns() + seconds_to_ns(_OPEN_S), 0
        while not there():
            time_ns = now_ns()
            if time_ns > deadline_ns:
                raise DeviceError(problem())
            if ask is not None and time_ns - asked_ns > _ASK_AGAIN_NS:
                asked_ns = time_ns
                ask()
            time.sleep(0.01)
            self.receive()

    def _nobody(self) -> str:
        config = self._config
        wanted = f"No heartbeat of system {config.system_id}, component {config.component_id}, has come on "
        wanted += f"{config.address} for {_OPEN_S:g} s"
        if not self._strangers:
            return f"{wanted}, and none of anybody else. See that the vehicle is on and sends to this port."
        return f"{wanted}; heard were {self._heard()}. Set robot.system_id and robot.component_id to its ids."

    def _heard(self) -> str:
        return ", ".join(
            f"system {system}, component {component} ({kind})"
            for (system, component), kind in sorted(self._strangers.items())
        )

    def _unsaid(self) -> str:
        """Returns the message that the vehicle has not sent yet, of those that it must be known by."""
        vehicle = self.vehicle
        said = {
            "LOCAL_POSITION_NED": vehicle.time_ns > 0,
            "ATTITUDE_QUATERNION": vehicle.rotation is not None,
            "EXTENDED_SYS_STATE": vehicle.landed is not None,
        }
        return next((name for name, there in said.items() if not there), "")

    def _nowhere(self) -> str:
        missing, told = self._unsaid(), self.texts_since(0)
        advice = (
            "It must tell whether it stands on the ground: see what its autopilot sends on this link."
            if missing == "EXTENDED_SYS_STATE"
            else "See that its estimator has a position (GPS, motion capture or optical flow)."
        )
        return (
            f"System {self._config.system_id} is there, but sends no {missing}"
            + (f' and says: "{told}"' if told else "")
            + f". {advice}"
        )

    def _refuse_twin(self) -> None:
        if self.twin_ns:
            config = self._config
            raise DeviceError(
                f"Another station on {config.address} has our own id, system {config.station_id}, component "
                f"{config.station_component_id}. Two of them would answer for each other: end it, or give "
                "robot.station_id a number that nobody has."
            )

    def _ask_for_streams(self) -> None:
        number, interval_us = int(self._words.MAV_CMD_SET_MESSAGE_INTERVAL), 1e6 / self._config.rate_hz
        for name, share in (
            ("LOCAL_POSITION_NED", 1),
            ("ATTITUDE_QUATERNION", 1),
            ("EXTENDED_SYS_STATE", 10),
        ):
            message = getattr(self._words, f"MAVLINK_MSG_ID_{name}")
            self._send_command(number, 0, (message, share * interval_us))

    def _send_command(self, number: int, attempt: int, parameters: tuple[float, ...]) -> None:
        config, filled = self._config, (*parameters, *(0.0,) * (7 - len(parameters)))
        self._connection.mav.command_long_send(
            config.system_id, config.component_id, number, attempt, *filled
        )

    def _answer(self, number: int) -> Generator[None, None, int | None]:
        """Waits for the answer to a command; one that is in progress gets more time."""
        deadline_ns, result = now_ns() + seconds_to_ns(_ANSWER_S), None
        while now_ns() < deadline_ns:
            yield
            result = self._answers.pop(number, result)
            if result == self._words.MAV_RESULT_IN_PROGRESS:
                deadline_ns, result = now_ns() + seconds_to_ns(_ANSWER_S), None
            elif result not in (None, self._words.MAV_RESULT_TEMPORARILY_REJECTED):
                break
        return result

    def _name(self, enumeration: str, value: int) -> str:
        names = self._words.enums[enumeration]
        return str(names[value].name) if value in names else str(value)

    def _take(self, message: Any, arrival_ns: int) -> None:
        source = message.get_srcSystem(), message.get_srcComponent()
        if source == (self._config.station_id, self._config.station_component_id):
            self.twin_ns = arrival_ns
        elif source != (self._config.system_id, self._config.component_id):
            self._strange(source, message)
        else:
            self.heard_ns = arrival_ns
            if handle := self._handlers.get(message.get_type()):
                handle(message, arrival_ns)

    def _strange(self, source: tuple[int, int], message: Any) -> None:
        if message.get_type() == "HEARTBEAT":
            self._strangers[source] = self._name("MAV_TYPE", message.type)

    def _heartbeat(self, message: Any, arrival_ns: int) -> None:
        if self._first is None:
            self._first = message
        vehicle = self.vehicle
        vehicle.armed = bool(message.base_mode & self._words.MAV_MODE_FLAG_SAFETY_ARMED)
        vehicle.custom_mode = message.custom_mode
        vehicle.mode = _mode_name(message)

    def _local_position(self, message: Any, arrival_ns: int) -> None:
        vehicle = self.vehicle
        vehicle.position = swap_world(np.array([message.x, message.y, message.z]))
        vehicle.velocity = swap_world(np.array([message.vx, message.vy, message.vz]))
        vehicle.time_ns = self._clock.monotonic_ns(1_000_000 * message.time_boot_ms, arrival_ns)

    def _attitude(self, message: Any, arrival_ns: int) -> None:
        quaternion = np.array([message.q1, message.q2, message.q3, message.q4])
        self.vehicle.rotation = swap_rotation(quaternion_to_matrix(quaternion))

    def _extended_state(self, message: Any, arrival_ns: int) -> None:
        if message.landed_state != self._words.MAV_LANDED_STATE_UNDEFINED:
            self.vehicle.landed = message.landed_state == self._words.MAV_LANDED_STATE_ON_GROUND

    def _status_text(self, message: Any, arrival_ns: int) -> None:
        if message.chunk_seq and self._texts:  # the text before goes on
            begun_ns, text = self._texts.pop()
            self._texts.append((begun_ns, text + message.text))
        else:
            self._texts.append((arrival_ns, message.text))

    def _acknowledged(self, message: Any, arrival_ns: int) -> None:
        config, to = self._config, (message.target_system, message.target_component)
        if to in ((config.station_id, config.station_component_id), (0, 0)):
            self._answers[message.command] = message.result
        elif message.command == self._words.MAV_CMD_DO_SET_MODE:
            self._mode_changes = arrival_ns, f"{to[0]} (component {to[1]})"


def pause(seconds: float) -> Steps:
    """Waits [s]."""
    end_ns = now_ns() + seconds_to_ns(seconds)
    while now_ns() < end_ns:
        yield


def until(there: Callable[[], bool], timeout_s: float, what: str, vehicle: VehicleState) -> Steps:
    """Waits until something is so.

    Raises:
        DeviceError: it is not in time [s].
    """
    end_ns = now_ns() + seconds_to_ns(timeout_s)
    while not there():
        if now_ns() > end_ns:
            raise DeviceError(
                f"The vehicle was to {what}, and has not for {timeout_s:g} s; its mode is {vehicle.mode}, "
                f"its height {vehicle.position[2]:.2f} m. See what its own ground station says."
            )
        yield


def _mode_name(heartbeat: Any) -> str:
    mavutil = import_mavutil()
    if autopilot_numbered(heartbeat.autopilot) == "generic":
        return str(mavutil.interpret_px4_mode(heartbeat.base_mode, heartbeat.custom_mode))
    return str(mavutil.mode_string_v10(heartbeat))
