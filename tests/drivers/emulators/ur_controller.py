"""An own emulator of a UR controller: RTDE v2, dashboard, and the ports that take programs.

Run as a process of its own (ur_rtde's constructors hold the GIL, so it cannot share one with its client):

    python ur_controller.py --host 127.0.0.5 --model UR5e --start 2.86 -1.62 1.84 -1.8 -1.57 -1.85

It prints "ready" when its ports are open: 30004 (RTDE), 29999 (dashboard), 30001 to 30003 (programs; a real
controller also sends its state there, which ur_rtde does not read). What happens to the robot is told by
lines on its standard input: see ``_PENDANT``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from ur_model import MODELS, Controller, Runtime, Safety

from robopolicy_drivers.realtime.scheduling import request_punctuality

_RTDE_PORT, _DASHBOARD_PORT, _PROGRAM_PORTS = 30004, 29999, (30001, 30002, 30003)
_FORMATS = {
    "INT32": "i",
    "UINT32": "I",
    "UINT64": "Q",
    "UINT8": "B",
    "DOUBLE": "d",
    "VECTOR3D": "3d",
    "VECTOR6D": "6d",
}
_VERSION, _CONTROLLER, _OUTPUTS, _INPUTS, _START, _PAUSE, _DATA = b"VvOISPU"
_LATEST_S = 0.1  # later than this, the periods that were missed are left out


def input_type(name: str) -> str:
    """Returns the RTDE type of an input; NOT_FOUND for one that no controller has."""
    if name.startswith("input_int_register_"):
        return "INT32"
    if name.startswith("input_double_register_"):
        return "DOUBLE"
    return {"external_force_torque": "VECTOR6D", "speed_slider_mask": "UINT32"}.get(name, "NOT_FOUND")


class Connection:
    """One client; what cannot be sent at once waits."""

    def __init__(self, client: socket.socket) -> None:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = client
        self.received = b""
        self._unsent = b""

    def send(self, data: bytes, *, droppable: bool = False) -> None:
        if droppable and self._unsent:
            return
        self._unsent += data
        with contextlib.suppress(BlockingIOError):
            self._unsent = self._unsent[self.socket.send(self._unsent) :]

    def handle(self) -> None:
        """Works on what has been received."""
        raise NotImplementedError

    def close(self) -> None:
        self.socket.close()


class Dashboard(Connection):
    """The dashboard server: one line of text asks, one answers."""

    def __init__(self, client: socket.socket, server: Server) -> None:
        super().__init__(client)
        self._controller = server.controller
        self.send(b"Connected: Universal Robots Dashboard Server\n")

    def handle(self) -> None:
        *lines, self.received = self.received.split(b"\n")
        for line in lines:
            self.send(self._answer(line.decode().strip().lower()).encode() + b"\n")

    def _answer(self, asked: str) -> str:
        controller = self._controller
        version = ".".join(map(str, controller.version))
        answers: dict[str, Callable[[], str]] = {
            "polyscopeversion": lambda: f"URSoftware {version} (Jan 01 2024)",
            "is in remote control": lambda: str(controller.remote).lower(),
            "get serial number": lambda: "20235500001",
            "get robot model": lambda: controller.model.removesuffix("e"),
            "safetystatus": lambda: f"Safetystatus: {controller.safety.name}",
            "robotmode": lambda: f"Robotmode: {controller.mode.name}",
            "running": lambda: f"Program running: {str(controller.runtime is Runtime.PLAYING).lower()}",
            "unlock protective stop": controller.unlock,
            "close safety popup": lambda: "closing safety popup",
            "stop": self._stop,
        }
        if asked not in answers:
            return f"could not understand: '{asked}'"
        return answers[asked]()

    def _stop(self) -> str:
        if not self._controller.remote:
            return 'Command is not allowed due to safety reasons. "stop" needs remote control'
        self._controller.stop_program()
        return "Stopped"


class Programs(Connection):
    """A port that takes programs: the text of one ends with ``end`` at the beginning of a line."""

    def __init__(self, client: socket.socket, server: Server) -> None:
        super().__init__(client)
        self._controller = server.controller

    def handle(self) -> None:
        while b"\nend\n" in self.received:
            text, self.received = self.received.split(b"\nend\n", 1)
            self._controller.run_program(text.decode())


class Rtde(Connection):
    """The Real-Time Data Exchange, protocol version 2."""

    def __init__(self, client: socket.socket, server: Server) -> None:
        super().__init__(client)
        self._server, self._controller = server, server.controller
        self._outputs: list[str] = []
        self._inputs: list[list[str]] = []
        self._every, self._sending = 1, False
        self._answers: dict[int, Callable[[bytes], bytes]] = {
            _VERSION: lambda body: bytes([body == b"\x00\x02"]),
            _CONTROLLER: lambda _: struct.pack(">4I", *self._controller.version),
            _OUTPUTS: self._set_up_outputs,
            _INPUTS: self._set_up_inputs,
            _START: lambda _: self._switch(True),
            _PAUSE: lambda _: self._switch(False),
        }

    def handle(self) -> None:
        while len(self.received) >= 3:
            size, kind = struct.unpack(">HB", self.received[:3])
            if len(self.received) < size:
                return
            body, self.received = self.received[3:size], self.received[size:]
            if kind == _DATA:
                self._take(body)
            elif kind in self._answers:
                self._message(kind, self._answers[kind](body))

    def publish(self, period: int) -> None:
        """Sends a data package, if it is time for one."""
        if not self._sending or period % self._every:
            return
        body = b"\x01"
        for name in self._outputs:
            found = self._controller.output(name)
            if found is not None:
                body += struct.pack(">" + _FORMATS[found[0]], *np.ravel(found[1]).tolist())
        self._message(_DATA, body, droppable=True)

    def close(self) -> None:
        super().close()
        self._server.claims = {
            name: owner for name, owner in self._server.claims.items() if owner is not self
        }

    def _message(self, kind: int, body: bytes, *, droppable: bool = False) -> None:
        self.send(struct.pack(">HB", len(body) + 3, kind) + body, droppable=droppable)

    def _set_up_outputs(self, body: bytes) -> bytes:
        rate = 1.0 / self._controller.period_s
        self._every = round(rate / float(np.clip(struct.unpack(">d", body[:8])[0], 1.0, rate)))
        self._outputs = [name for name in body[8:].decode().split(",") if name]
        found = [self._controller.output(name) for name in self._outputs]
        return b"\x01" + ",".join("NOT_FOUND" if one is None else one[0] for one in found).encode()

    def _set_up_inputs(self, body: bytes) -> bytes:
        names = [name for name in body.decode().split(",") if name]
        claims = self._server.claims
        types = ["IN_USE" if claims.get(name, self) is not self else input_type(name) for name in names]
        if "IN_USE" in types or "NOT_FOUND" in types:
            return b"\x00" + ",".join(types).encode()
        claims.update(dict.fromkeys(names, self))
        self._inputs.append(names)
        return bytes([len(self._inputs)]) + ",".join(types).encode()

    def _switch(self, sending: bool) -> bytes:
        self._sending = sending
        return b"\x01"

    def _take(self, body: bytes) -> None:
        names = self._inputs[body[0] - 1]
        offset = 1
        for name in names:
            layout = ">" + _FORMATS[input_type(name)]
            # ur_rtde leaves out what a command does not need.
            if offset + struct.calcsize(layout) > len(body):
                break
            values = struct.unpack_from(layout, body, offset)
            self._controller.write(name, values[0] if len(values) == 1 else list(values))
            offset += struct.calcsize(layout)


class Server:
    """All ports of one controller, in one thread with its periods.

    Attributes:
        claims: which client writes an RTDE input, by the input's name.
    """

    def __init__(self, host: str, controller: Controller) -> None:
        self.controller = controller
        self.claims: dict[str, object] = {}
        self._selector = selectors.DefaultSelector()
        self._rtde: list[Rtde] = []
        self._listen(host, _RTDE_PORT, Rtde)
        self._listen(host, _DASHBOARD_PORT, Dashboard)
        for port in _PROGRAM_PORTS:
            self._listen(host, port, Programs)
        self._selector.register(sys.stdin, selectors.EVENT_READ, self._hear)

    def run(self) -> None:
        """Serves until the standard input is closed."""
        period, deadline = 0, time.monotonic()
        while True:
            self._serve_until(deadline)
            lost_s = max(0.0, time.monotonic() - _LATEST_S - deadline)
            deadline += self.controller.period_s + lost_s
            self.controller.time_s += lost_s  # a real controller's clock never loses time
            period += 1
            self.controller.step()
            for client in list(self._rtde):
                self._guarded(client, partial(client.publish, period))

    def _listen(self, host: str, port: int, protocol: type[Any]) -> None:
        listening = socket.create_server((host, port))

        def accept() -> None:
            client = protocol(listening.accept()[0], self)
            self._selector.register(client.socket, selectors.EVENT_READ, lambda: self._receive(client))
            if isinstance(client, Rtde):
                self._rtde.append(client)

        self._selector.register(listening, selectors.EVENT_READ, accept)

    def _serve_until(self, deadline: float) -> None:
        while True:
            remaining_s = max(0.0, deadline - time.monotonic())
            ready = self._selector.select(remaining_s)
            for key, _ in ready:
                key.data()
            if time.monotonic() >= deadline:
                return

    def _receive(self, client: Connection) -> None:
        def take() -> None:
            data = client.socket.recv(65536)
            if not data:
                raise ConnectionResetError
            client.received += data
            client.handle()

        self._guarded(client, take)

    def _guarded(self, client: Connection, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError:
            self._selector.unregister(client.socket)
            if isinstance(client, Rtde):
                self._rtde.remove(client)
            client.close()

    def _hear(self) -> None:
        text = os.read(sys.stdin.fileno(), 4096).decode()
        if not text:
            raise SystemExit
        for line in text.splitlines():
            name, *arguments = line.split()
            _PENDANT[name](self, [float(argument) for argument in arguments])


def _set(attribute: str, value: Any) -> Callable[[Server, Sequence[float]], None]:
    return lambda server, _: setattr(server.controller, attribute, value)


_PENDANT: dict[str, Callable[[Server, Sequence[float]], None]] = {
    "protective_stop": lambda server, _: server.controller.protective_stop(),
    "emergency_stop": lambda server, _: server.controller.emergency_stop(),
    "power_on": lambda server, _: server.controller.power_on(),
    "safeguard": _set("safety", Safety.SAFEGUARD_STOP),
    "enabling_stop": _set("safety", Safety.SYSTEM_THREE_POSITION_ENABLING_STOP),
    "normal": _set("safety", Safety.NORMAL),
    "remote": _set("remote", True),
    "local": _set("remote", False),
    "stop_program": lambda server, _: server.controller.stop_program(),
    "payload": lambda server, values: setattr(server.controller, "payload", values[0]),
    "speed": lambda server, values: setattr(server.controller, "speed_slider", values[0]),
    "force": lambda server, values: setattr(server.controller, "force", np.array(values)),
    "fieldbus": lambda server, _: server.claims.update({"input_int_register_0": "EtherNet/IP adapter"}),
}


def main() -> None:
    """Reads the arguments and serves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.5")
    parser.add_argument("--model", choices=MODELS, default="UR5e")
    parser.add_argument("--version", default="5.11.1.0", help="3.x.y.z is a CB3 controller of 125 Hz")
    parser.add_argument("--start", type=float, nargs=6, default=[2.86, -1.62, 1.84, -1.8, -1.57, -1.85])
    parser.add_argument("--unlock-after", type=float, default=5.0, help="a protective stop [s]")
    options = parser.parse_args()
    major, minor, bugfix, build = (int(part) for part in options.version.split("."))
    controller = Controller(options.model, (major, minor, bugfix, build), options.start, options.unlock_after)
    server = Server(options.host, controller)
    request_punctuality()  # as a real controller is punctual
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    server.run()


if __name__ == "__main__":
    main()
