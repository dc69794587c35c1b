"""The simulated vehicle and its autopilot in a process of their own, on the other end of a driver's link.

Its physics runs in real time. What a test or an experiment needs besides MAVLink (the truth, faults) goes
through the process's own channel.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.geometry import Array, matrix_to_axis_angle
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_drivers.hosting.device import RING, HostedDevice
from robopolicy_drivers.realtime.child import DeviceChannel
from robopolicy_drivers.realtime.loop import DeadlineLoop
from robopolicy_drivers.realtime.ring import Record
from robopolicy_drivers.realtime.scheduling import request_punctuality
from robopolicy_sim.autopilot.autopilot import Autopilot
from robopolicy_sim.autopilot.flight import TIMESTEP, SimulatedFlight
from robopolicy_sim.autopilot.server import AutopilotServer

_TELL_EVERY = 5  # ticks: 50 Hz
_TELL_LANDED_EVERY = 50
_CATCH_UP_TICKS = 25

TRUTH = Spec(
    (
        Feature("position", (3,), "float64", unit="m", frame="world"),
        Feature("rotation", (3,), "float64", unit="rad", frame="world"),
        Feature("armed", (), "bool"),
        Feature("mode", (), "int64"),
        Feature("fail_safe_ns", (), "int64"),
        Feature("set_points", (), "int64"),
    ),
    (),
)


class SimulatedVehicle(HostedDevice):
    """See the module text. Use it in a ``with`` statement.

    Args:
        address: where its autopilot speaks, as MAVSDK writes it.
        embodiment: a multirotor that carries nothing.
        height: at which it hovers at first; at 0 it stands on the ground [m].

    Attributes:
        address: as given.
    """

    def __init__(
        self,
        address: str = "udpout://127.0.0.1:14540",
        *,
        embodiment: str = "quadrotor",
        height: float = 0.0,
    ) -> None:
        self.address = address
        arguments = {"address": address, "embodiment": embodiment, "height": height}
        super().__init__(
            "robopolicy_sim.autopilot.vehicle:fly",
            arguments,
            TRUTH,
            name=f"simulated vehicle at {address}",
            slots=2048,
            heartbeat_timeout_s=2.0,
        )

    def truth(self) -> Record:
        """Returns the newest true state: position [m] and rotation [rad] in the world, mode, ..."""
        return self._newest()

    def set_points(self) -> Array:
        """Returns time stamp [ms] and arrival [ns, monotonic] of each set point that came ``[N, 2]``."""
        return np.reshape(self._running().request("set_points"), (-1, 2))

    def begin(self, height: float) -> None:
        """Puts it over where it began, hovering at a height [m], or standing at 0."""
        self._running().request("begin", height)

    def enter(self, mode: str) -> None:
        """Changes the mode without a command, as a pilot's switch does; a name such as ``"POSCTL"``."""
        self._running().request("enter", mode)

    def refuse_arming(self, reason: str) -> None:
        """Refuses to arm and says why; an empty reason ends that."""
        self._running().request("refuse_arming", reason)

    def allow_take_off(self, allowed: bool) -> None:
        """Whether it takes off when it is asked to."""
        self._running().request("allow_take_off", allowed)

    def open(self, address: str) -> None:
        """Opens a further connection; what comes in there is passed on."""
        self._running().request("open", address)

    def freeze(self) -> None:
        """Stops the whole process, so that nothing answers; nothing else is closed."""
        os.kill(self._running().pid or 0, signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets a frozen process go on."""
        os.kill(self._running().pid or 0, signal.SIGCONT)


def fly(channel: DeviceChannel, address: str, embodiment: str, height: float) -> None:
    """Runs physics and autopilot in real time until the channel closes."""
    server = AutopilotServer(address)
    try:
        autopilot = Autopilot(server, SimulatedFlight(load_embodiment(embodiment)))
        autopilot.begin(height)
        _Loop(channel, autopilot).run()
    finally:
        server.close()


class _Loop:
    def __init__(self, channel: DeviceChannel, autopilot: Autopilot) -> None:
        self.channel, self.autopilot = channel, autopilot
        server = autopilot.server
        self.requests: Mapping[str, Callable[[Any], Any]] = {
            "begin": autopilot.begin,
            "set_points": lambda _: np.array(autopilot.set_points, np.int64),
            "enter": lambda name: autopilot.enter(server.modes[name]),
            "refuse_arming": autopilot.refuse_arming,
            "allow_take_off": server.allow_take_off,
            "open": server.connect,
        }
        self.loop = DeadlineLoop(1.0 / TIMESTEP, channel.statistics)

    def run(self) -> None:
        request_punctuality()
        self.tell(0)
        self.channel.ready()
        tick = 0
        while not self.channel.closing:
            for _ in range(min(self.loop.wait(), _CATCH_UP_TICKS)):
                self.autopilot.tick(now_ns())
                tick += 1
                self.tell(tick)
            for message in self.channel.messages():
                message.reply(self.requests[message.name](message.payload))

    def tell(self, tick: int) -> None:
        autopilot, state = self.autopilot, self.autopilot.flight.state
        if tick % _TELL_EVERY == 0:
            autopilot.server.tell_state(state, round(1e9 * tick * TIMESTEP))
        if tick % _TELL_LANDED_EVERY == 0:
            autopilot.server.tell_landed(autopilot.flight.standing)
        truth = {
            "position": state.position,
            "rotation": matrix_to_axis_angle(state.rotation),
            "armed": np.array(autopilot.armed),
            "mode": np.array(autopilot.mode),
            "fail_safe_ns": np.array(autopilot.fail_safe_ns),
            "set_points": np.array(len(autopilot.set_points)),
        }
        self.channel.rings[RING].write(now_ns(), truth)
