"""A bus of Feetech STS servos on a serial port: registers, set points and states (``scservo_sdk``).

Addresses and units are those of Feetech's memory table of the STS/SMS series. A servo's position is 12 bits
of one turn; what it tells is ``(encoder - HOMING_OFFSET) modulo 4096``, and set points are meant likewise.
"""

from __future__ import annotations

import termios
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.registry import load_target
from robopolicy_drivers.serial_port import open_serial

BAUDRATE = 1_000_000
TURN = 4096  # counts
STS3215 = 777  # model number
_READ_S = 0.002  # of one read of the port; the SDK asks again until its own time is over
ATTEMPTS = 10  # of a question to servos that need not be told by the next tick


class LostAnswerError(DeviceError):
    """A servo did not answer, or its answer was damaged; the next one may come."""


class Register(NamedTuple):
    """Where a servo keeps a value.

    Attributes:
        address: of its lowest byte.
        size: in bytes (1 or 2).
        sign: the bit that makes it negative; None where it has no sign.
    """

    address: int
    size: int
    sign: int | None = None

    def encode(self, value: int) -> int:
        """Returns the bits of a value.

        Raises:
            DeviceError: it has no room.
        """
        bits = 8 * self.size if self.sign is None else self.sign
        if abs(value) >= 1 << bits or (value < 0 and self.sign is None):
            raise DeviceError(f"The value {value} has no room in the servo register {self.address}.")
        return abs(value) | (1 << bits if value < 0 else 0)

    def decode(self, bits: int) -> int:
        """Returns the value of some bits; magnitude and sign, not the two's complement."""
        if self.sign is None or not bits & 1 << self.sign:
            return bits
        return -(bits & ~(1 << self.sign))


MODEL = Register(3, 2)
RETURN_DELAY = Register(7, 1)
MIN_POSITION, MAX_POSITION = Register(9, 2), Register(11, 2)
PHASE = Register(18, 1)
HOMING_OFFSET = Register(31, 2, sign=11)
OPERATING_MODE = Register(33, 1)
TORQUE_ENABLE = Register(40, 1)
ACCELERATION = Register(41, 1)
GOAL_POSITION = Register(42, 2)
TORQUE_LIMIT = Register(48, 2)
LOCK = Register(55, 1)
PRESENT_POSITION = Register(56, 2, sign=15)
PRESENT_VELOCITY = Register(58, 2, sign=15)
STATUS = Register(65, 1)
COUNTS_TURNS = 1 << 4  # in PHASE: positions go on beyond one turn
_STATE = range(TORQUE_ENABLE.address, STATUS.address + 1)

STATUS_BITS = {
    0x01: "its voltage is out of range; check the power supply",
    0x02: "its angle sensor fails; replace it",
    0x04: "it is too hot; let it cool down",
    0x08: "its current is too high; free the joint",
    0x20: "it is overloaded; take the load away",
}
"""What a servo's status says, by its bits."""


class ServoState(NamedTuple):
    """What a servo tells.

    Attributes:
        torque: whether it holds its position.
        goal: the set point that it has, in counts.
        position: in counts.
        velocity: [counts/s].
        status: of ``STATUS_BITS``.
    """

    torque: bool
    goal: int
    position: int
    velocity: int
    status: int


class ServoBus:
    """The servos of one arm. All methods raise DeviceError where the bus cannot be used any more.

    Args:
        port: e.g. ``"/dev/ttyACM0"``.
        names: of the servos, by their numbers on the bus.
    """

    def __init__(self, port: str, names: dict[int, str]) -> None:
        self.port, self.names = port, names
        self._serial: Any = None

    def open(self) -> None:
        """Opens the port and looks for every servo.

        Raises:
            DeviceError: the port cannot be used, or a servo is missing or of another model.
            MissingExtraError: the SDK is not installed.
        """
        sdk = load_target("scservo_sdk:__dict__")
        self._sdk, self._serial = sdk, open_serial(self.port, BAUDRATE, _READ_S)
        self._handler = sdk["PortHandler"](self.port)
        self._handler.ser, self._handler.is_open = self._serial, True
        self._handler.tx_time_per_byte = 1e4 / BAUDRATE  # ten bits, in ms
        self._packets = sdk["PacketHandler"](0)
        self._reader = sdk["GroupSyncRead"](self._handler, self._packets, _STATE.start, len(_STATE))
        self._writer = sdk["GroupSyncWrite"](
            self._handler, self._packets, GOAL_POSITION.address, GOAL_POSITION.size
        )
        for servo in self.names:
            model = self.read(servo, MODEL)
            if model != STS3215:
                raise DeviceError(
                    f"The {self._servo(servo)} on '{self.port}' is of model {model}, not an STS3215 "
                    f"({STS3215}). Check that this is the port of the arm."
                )
            self._reader.addParam(servo)

    def states(self, attempts: int = ATTEMPTS) -> tuple[int, list[ServoState]]:
        """Returns the states of all servos, and when they were asked for [ns, monotonic].

        Args:
            attempts: how often to ask at most; a missing answer takes about 40 ms each time.

        Raises:
            LostAnswerError: an answer is missing or damaged in all of them.
        """
        for _ in range(attempts - 1):
            with suppress(LostAnswerError):
                return self._states()
        return self._states()

    def _states(self) -> tuple[int, list[ServoState]]:
        time_ns = now_ns()
        self._serial_call(self._serial.reset_input_buffer)  # a late answer to an earlier question
        for servo in self.names:
            self._reader.data_dict[servo] = []
        result = self._serial_call(self._reader.txRxPacket)
        if result != self._sdk["COMM_SUCCESS"]:
            silent = next((servo for servo in self.names if not self._reader.data_dict[servo]), 0)
            raise self._failed(f"read the state of the {self._servo(silent)}", result)
        return time_ns, [self._state(bytes(self._reader.data_dict[servo])) for servo in self.names]

    def send(self, goals: Sequence[int]) -> None:
        """Sends the set points of all servos, in counts; no servo answers."""
        self._writer.clearParam()
        for servo, goal in zip(self.names, goals, strict=True):
            bits = GOAL_POSITION.encode(goal)
            self._writer.addParam(servo, [bits & 0xFF, bits >> 8])
        result = self._serial_call(self._writer.txPacket)
        if result != self._sdk["COMM_SUCCESS"]:
            raise self._failed("send set points", result)

    def read(self, servo: int, register: Register) -> int:
        """Returns a value that a servo keeps."""
        name = f"read{register.size}ByteTxRx"
        answer = self._asked(f"read the {self._servo(servo)}", name, servo, register.address)
        return register.decode(answer[0])

    def write(self, servo: int, register: Register, value: int) -> None:
        """Changes a value that a servo keeps; a locked servo forgets it without power."""
        name, bits = f"write{register.size}ByteTxRx", register.encode(value)
        self._asked(f"set the {self._servo(servo)}", name, servo, register.address, bits)

    def enable_torque(self, enabled: bool) -> None:
        """Lets all servos hold where their set points are, or lets a hand move them."""
        for servo in self.names:
            self.write(servo, TORQUE_ENABLE, int(enabled))

    def close(self) -> None:
        """Closes the port; the servos go on as they are. Calling it again does nothing."""
        if self._serial is not None:
            self._serial.close()
            self._serial = None

    def _asked(self, what: str, name: str, *arguments: int) -> tuple[int, ...]:
        """Makes a request of one servo, several times where its answer is lost; returns what came."""
        for _ in range(ATTEMPTS):
            self._serial_call(self._serial.reset_input_buffer)
            *values, result, _status = self._serial_call(
                getattr(self._packets, name), self._handler, *arguments
            )
            if result == self._sdk["COMM_SUCCESS"]:
                return tuple(values)
        raise self._failed(what, result)

    def _serial_call(self, call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except (OSError, termios.error) as error:  # pyserial's errors are of the first kind
            raise DeviceError(
                f"The connection to '{self.port}' is broken ({error}). Check the USB cable, and "
                "connect again."
            ) from error

    def _failed(self, what: str, result: int) -> LostAnswerError:
        reason = {
            self._sdk["COMM_RX_TIMEOUT"]: "nothing answers",
            self._sdk["COMM_RX_CORRUPT"]: "its answer is damaged",
        }.get(result, self._packets.getTxRxResult(result))
        return LostAnswerError(
            f"Could not {what} on '{self.port}': {reason}. Check its number on the bus, the cables between "
            "the servos and the power supply."
        )

    def _servo(self, servo: int) -> str:
        return f"servo {servo} ({self.names.get(servo, 'unknown')})"

    @staticmethod
    def _state(content: bytes) -> ServoState:
        def value(register: Register) -> int:
            begin = register.address - _STATE.start
            return register.decode(int.from_bytes(content[begin : begin + register.size], "little"))

        return ServoState(
            bool(value(TORQUE_ENABLE)),
            value(GOAL_POSITION),
            value(PRESENT_POSITION),
            value(PRESENT_VELOCITY),
            value(STATUS),
        )
