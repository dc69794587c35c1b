"""Robotiq 2F-85 and 2F-140 over Modbus RTU, on a serial port or through a TCP gateway (pymodbus).

Registers, fault codes and ranges of speed and force are those of Robotiq's instruction manual "2F-85 &
2F-140", chapter 4: three registers from 1000 on are written, three from 2000 on are read.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple
from urllib.parse import urlsplit

from robopolicy_datasets.clock import now_ns, ns_to_seconds
from robopolicy_datasets.errors import ConfigError, DeviceError, unknown_name
from robopolicy_datasets.registry import load_target
from robopolicy_drivers.grippers.configs import GripperConfig, Range, require_within
from robopolicy_drivers.hosting.facts import DeviceFacts, Evidence
from robopolicy_drivers.serial_port import open_serial

COMMAND, STATUS, REGISTERS = 1000, 2000, 3
BAUDRATE = 115_200
ACTIVATED = 3
_GATEWAY = "tcp"
_ATTEMPTS, _FIRST_ATTEMPTS = 2, 10  # one answer may be lost or damaged; more until it is connected
_ACTIVATION_TIMEOUT_S = 10.0
_RECOVERY_S = 0.35  # that a release may take; longer, and the process would seem stuck
_PAUSE_S = 0.002  # between two exchanges: others need the interpreter too
_RETRY_S = 0.1  # between two attempts to reach a gripper that does not answer
_ECHO_S = 0.2  # until when the gripper must have taken over what was written
_ACTIVATE, _GO = 0x0100, 0x0800

FAULTS = {
    5: "a motion was asked for before its activation was complete",
    7: "it is not activated",
    8: "it is too hot; let it cool down",
    10: "its supply voltage is too low; check the supply of 24 V",
    11: "an automatic release is in progress",
    12: "an internal fault; release again, and ask Robotiq if it comes back",
    13: "its activation failed; free the fingers",
    14: "its current is too high; free the fingers",
    15: "an automatic release was completed",
}
"""What stops the gripper, by its code; 9 (a second without communication) ends with the next exchange."""


class Model(NamedTuple):
    """What differs between the grippers.

    Attributes:
        stroke: largest opening [m].
        speed: slowest and fastest [m/s], for the bytes 0 and 255.
        force: smallest and largest [N], likewise.
    """

    stroke: float
    speed: Range
    force: Range


MODELS = {
    "2f85": Model(0.085, (0.02, 0.15), (20.0, 235.0)),
    "2f140": Model(0.140, (0.03, 0.25), (10.0, 125.0)),
}


@dataclass
class RobotiqConfig(GripperConfig):
    """A Robotiq 2F-85 or 2F-140, on its USB adapter or behind a robot's Modbus RTU gateway.

    Further settings: ``GripperConfig``.

    Attributes:
        port: the serial port, e.g. /dev/ttyUSB0, or a gateway, e.g. tcp://192.168.0.2:54321.
        model: 2f85 or 2f140.
        unit: its Modbus number.
        reply_timeout_s: how long an answer may take [s]; where two in a row are missing, it stops.
        open_count: the position that it tells when fully open.
        closed_count: the position that it tells when closed without an object.
    """

    link: ClassVar[str] = f"{__name__}:RobotiqLink"
    device: ClassVar[DeviceFacts] = DeviceFacts(
        protocol="Modbus RTU, serial or RTU over TCP",
        sdk="pymodbus",
        rates="loop 50 Hz; positions as often as the bus answers",
        evidence=Evidence.OWN_EMULATOR,
        tested_against="own registers on pymodbus 3.16 servers; pyrobotiqgripper 3.3 as a second client",
        modules=("pymodbus", "serial"),
    )

    port: str = "/dev/ttyUSB0"
    model: str = "2f85"
    unit: int = 9
    reply_timeout_s: float = 0.06
    open_count: int = 3
    closed_count: int = 230

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise unknown_name("Robotiq model", self.model, MODELS)
        model = MODELS[self.model]
        require_within("speed", self.speed, model.speed, "m/s")
        require_within("force", self.force, model.force, "N")
        if not 0 <= self.open_count < self.closed_count <= 255:
            raise ConfigError(
                f"open_count is {self.open_count} and closed_count {self.closed_count}; the position that "
                "the gripper tells grows from 0 to 255 as it closes."
            )

    @property
    def address(self) -> str:
        """See ``GripperConfig``."""
        return f"{self.port}, unit {self.unit}"

    @property
    def openings(self) -> Range:
        """See ``GripperConfig``."""
        return 0.0, MODELS[self.model].stroke

    def count(self, width: float) -> int:
        """Returns the position (0 to 255) of an opening [m]; beyond its range the nearest end."""
        share = min(max(width / MODELS[self.model].stroke, 0.0), 1.0)
        return round(self.closed_count - share * (self.closed_count - self.open_count))

    def width(self, count: int) -> float:
        """Returns the opening [m] of a position; beyond the calibrated ends it is that of the end."""
        share = (self.closed_count - count) / (self.closed_count - self.open_count)
        return MODELS[self.model].stroke * min(max(share, 0.0), 1.0)


class Status(NamedTuple):
    """What the gripper tells.

    Attributes:
        activation: 3 once it is activated.
        going: whether it follows position requests.
        fault: 0, or one of ``FAULTS``.
        echo: the position that was requested last.
        position: 0 (open) to 255 (closed).
    """

    activation: int
    going: bool
    fault: int
    echo: int
    position: int

    @classmethod
    def of(cls, registers: Sequence[int]) -> Status:
        """Takes the registers from 2000 on apart ``[3]``."""
        state, fault = registers[0] >> 8, registers[1] >> 8 & 0x0F
        return cls(state >> 4 & 0x03, bool(state & 0x08), fault, registers[1] & 0xFF, registers[2] >> 8)

    @property
    def ready(self) -> bool:
        """Whether it is activated and has no fault that stops it; each request makes it follow again."""
        return self.activation == ACTIVATED and self.fault not in FAULTS


class RobotiqLink:
    """A ``GripperLink``. One thread talks to the gripper, whose answers take longer than a tick.

    Args:
        config: the settings.
    """

    def __init__(self, config: RobotiqConfig) -> None:
        self._config, model = config, MODELS[config.model]
        self._speed = _byte(config.speed, model.speed)
        self._force = _byte(config.force, model.force)
        self._wanted: int | None = None
        self._written: tuple[int, int] | None = None  # position that was asked for last, and when [ns]
        self._failure = ""
        self._closing, self._reset = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._talk, daemon=True)
        self._client: Any = None
        self._attempts = _FIRST_ATTEMPTS

    def open(self) -> None:
        """Connects; activates the gripper where it is not: **its fingers then close and open fully**.

        Raises:
            DeviceError: it does not answer, is in use, or cannot be activated.
        """
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # what fails is told by our errors
        self._client = self._connected()
        self._newest = now_ns(), self._status()
        if not self._newest[1].ready:
            self._activate()
        self._attempts = _ATTEMPTS
        self._thread.start()

    def read(self) -> tuple[int, float]:
        """See ``GripperLink``; the time is the middle between request and answer."""
        time_ns, status = self._newest
        return time_ns, self._config.width(status.position)

    def send(self, width: float) -> None:
        """See ``GripperLink``."""
        self._wanted = self._config.count(width)

    def fault(self) -> str:
        """See ``GripperLink``."""
        time_ns, status = self._newest
        if self._failure:
            return self._failure
        if status.fault in FAULTS:
            return f"the gripper reports fault {status.fault}: {FAULTS[status.fault]}"
        if status.activation != ACTIVATED:
            return "the gripper is not activated any more: it was without power, or another program reset it"
        if (written := self._written) is None:
            return ""
        asked, written_ns = written
        if ns_to_seconds(time_ns - written_ns) > _ECHO_S and (status.echo != asked or not status.going):
            return (
                f"another program commands the gripper: it goes to {status.echo}, and {asked} was asked for. "
                "End that program"
            )
        return ""

    def recover(self) -> None:
        """See ``GripperLink``. After a major fault the fingers close and open fully, as when activated.

        Raises:
            DeviceError: the gripper is still being activated, or cannot be; with what to do.
        """
        deadline = time.monotonic() + _RECOVERY_S
        self._reset.set()
        while self._reset.is_set() and time.monotonic() < deadline:
            time.sleep(_PAUSE_S)
        if self._reset.is_set() and not self._failure:
            raise DeviceError(
                f"The gripper on '{self._config.port}' is being activated: its fingers close and open. "
                "Release the stop again in some seconds."
            )
        if reason := self.fault():
            raise DeviceError(f"The stop is not released: {reason.removesuffix('.')}.")

    def close(self) -> None:
        """See ``GripperLink``."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._client is not None:
            self._client.close()

    def _talk(self) -> None:
        """Reads the status as often as the bus allows, and writes what is new to be asked for."""
        while not self._closing.wait(_RETRY_S if self._failure else _PAUSE_S):
            resetting = self._reset.is_set()
            try:
                if resetting:
                    self._make_ready()
                elif not self._failure:
                    self._ask()
                before_ns = now_ns()
                status = self._status()
                self._newest = (before_ns + now_ns()) // 2, status
            except DeviceError as error:
                # Until a person releases: no old wish may move the fingers once the gripper answers again.
                self._failure, self._wanted, self._written = str(error), None, None
            if resetting:
                self._reset.clear()

    def _make_ready(self) -> None:
        """Forgets what was asked for, and activates the gripper where that is needed."""
        self._wanted = self._written = None
        ready = self._status().ready
        self._failure = ""
        if not ready:
            self._activate()

    def _ask(self) -> None:
        """Writes the position that is wanted, where it is another than that before."""
        wanted = self._wanted
        if wanted is not None and (self._written is None or wanted != self._written[0]):
            self._write(wanted)
            self._written = wanted, now_ns()

    def _activate(self) -> None:
        """Clears the fault by a rising edge of the activation bit, and waits until the fingers are done."""
        self._exchange("write_registers", COMMAND, values=[0] * REGISTERS)
        self._exchange(
            "write_registers", COMMAND, values=[_ACTIVATE | _GO, 0, self._speed << 8 | self._force]
        )
        deadline = time.monotonic() + _ACTIVATION_TIMEOUT_S
        while not (status := self._status()).ready:
            if time.monotonic() > deadline:
                reason = FAULTS.get(status.fault, "no fault is reported")
                raise DeviceError(
                    f"The gripper on '{self._config.port}' was not activated within "
                    f"{_ACTIVATION_TIMEOUT_S:g} s ({reason}). Free the fingers, and connect again."
                )
            time.sleep(_PAUSE_S)
        self._newest = now_ns(), status

    def _write(self, count: int) -> None:
        values = [_ACTIVATE | _GO, count, self._speed << 8 | self._force]
        self._exchange("write_registers", COMMAND, values=values)

    def _status(self) -> Status:
        registers = self._exchange("read_input_registers", STATUS, count=REGISTERS).registers
        if len(registers) != REGISTERS:
            raise DeviceError(f"The gripper answered with {len(registers)} registers, not {REGISTERS}.")
        return Status.of(registers)

    def _exchange(self, name: str, address: int, **values: Any) -> Any:
        """Makes one Modbus request; returns its answer."""
        config, failure = self._config, load_target("pymodbus.exceptions:ModbusException")
        for attempt in range(1, self._attempts + 1):
            try:
                answer = getattr(self._client, name)(address, device_id=config.unit, **values)
                break
            except (failure, OSError) as error:
                # An answer that comes later would be taken for that to the next request: RTU has no numbers.
                self._client.close()
                if attempt == self._attempts:
                    raise DeviceError(
                        f"the gripper {config.unit} on '{config.port}' does not answer ({error}). Check its "
                        "power, its cable, and that unit and baud rate are its own"
                    ) from error
        if answer.isError():
            raise DeviceError(
                f"what answers as {config.unit} on '{config.port}' refused the registers of a Robotiq 2F "
                f"gripper ({answer}). Check port and unit, and that no other device has that number"
            )
        return answer

    def _connected(self) -> Any:
        """Returns the client of a port that can be used."""
        port, options = self._config.port, {"timeout": self._config.reply_timeout_s, "retries": 0}
        framer = load_target("pymodbus:FramerType").RTU
        url = urlsplit(port)
        if url.scheme == _GATEWAY:
            client = load_target("pymodbus.client:ModbusTcpClient")(
                url.hostname, port=url.port, framer=framer, **options
            )
        else:
            # pymodbus does not say why a port cannot be opened.
            open_serial(port, BAUDRATE, self._config.reply_timeout_s).close()
            client = load_target("pymodbus.client:ModbusSerialClient")(
                port, framer=framer, baudrate=BAUDRATE, **options
            )
        if not client.connect():
            raise DeviceError(
                f"The gripper cannot be reached at '{port}': nothing accepts the connection. Check the "
                "address and that the gateway is on."
            )
        return client


def _byte(value: float, span: Range) -> int:
    return round(255 * (value - span[0]) / (span[1] - span[0]))
