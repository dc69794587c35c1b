"""The control loop in a robot's process: messages in, one tick of the controller, the state out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.store import Event
from robopolicy_drivers.hosting.device import RING
from robopolicy_drivers.hosting.robot import STOPPED
from robopolicy_drivers.realtime.child import DeviceChannel, Message
from robopolicy_drivers.realtime.loop import DeadlineLoop
from robopolicy_drivers.realtime.scheduling import request_punctuality

State = dict[str, NDArray[Any]]


class Controller(Protocol):
    """Moves one robot through its safety gate. All times are [ns, monotonic]."""

    @property
    def stopped(self) -> str:
        """Why the robot is stopped; empty while it is not."""

    def command(self, target: NDArray[np.float64], at_ns: int, now_ns: int) -> None:
        """Plans to be at ``target`` ``[A]`` at ``at_ns``; DeviceError where the stop has latched."""

    def hold(self, now_ns: int) -> None:
        """Drops all targets; the robot brakes and holds."""

    def stop(self, reason: str, now_ns: int) -> None:
        """Latches the stop; the first reason is kept."""

    def release(self) -> None:
        """Releases the stop; DeviceError where its cause is still there."""

    def events(self) -> Sequence[Event]:
        """Returns what the gate did, oldest first."""

    def observe(self) -> tuple[int, State]:
        """Returns the newest state and when it was measured; called once before each ``tick``."""

    def tick(self, now_ns: int) -> None:
        """Sends the set points of this tick to the device."""


def serve_robot(channel: DeviceChannel, controller: Controller, rate_hz: float) -> None:
    """Runs a controller at ``rate_hz`` until the channel closes; whoever opened the device closes it."""
    loop = RobotLoop(channel, controller, rate_hz)
    request_punctuality()
    loop.publish()
    channel.ready()
    loop.run()


class RobotLoop:
    """See the module text.

    Args:
        channel: to the parent; its ring ``RING`` takes the states.
        controller: of the robot.
        rate_hz: ticks per second.

    Attributes:
        channel: as given.
        controller: as given.
        loop: the deadlines.
        requests: what may be asked, by name.
    """

    def __init__(self, channel: DeviceChannel, controller: Controller, rate_hz: float) -> None:
        self.channel, self.controller = channel, controller
        self.loop = DeadlineLoop(rate_hz, channel.statistics, channel.sections)
        self._state: tuple[int, State] | None = None
        self.requests: Mapping[str, Callable[[Any], Any]] = {
            "command": self._command,
            "hold": lambda _: self.controller.hold(self.loop.deadline_ns),
            "stop": self._stop,
            "release": lambda _: self.controller.release(),
            "safety_events": lambda _: list(self.controller.events()),
        }

    def run(self) -> None:
        """Ticks until the channel closes."""
        messages, observe, control = map(self.channel.sections.section, ("messages", "observe", "control"))
        while not self.channel.closing:
            self.loop.wait()
            with messages:
                self.handle_messages()
            with observe:
                self.publish()
            with control:
                self.controller.tick(self.loop.deadline_ns)

    def handle_messages(self) -> None:
        """Answers what was asked since the last tick."""
        for message in self.channel.messages():
            self._handle(message)

    def publish(self) -> None:
        """Reads the state and writes it into the ring."""
        self._state = self.controller.observe()
        self._write(*self._state)

    def _write(self, time_ns: int, state: State) -> None:
        stopped = np.array(bool(self.controller.stopped))
        self.channel.rings[RING].write(time_ns, {**state, STOPPED.key: stopped})

    def _command(self, payload: tuple[NDArray[np.float64], int]) -> None:
        target, at_ns = payload
        self.controller.command(target, at_ns, self.loop.deadline_ns)

    def _stop(self, reason: str) -> None:
        self.controller.stop(reason, self.loop.deadline_ns)
        if self._state is not None:
            self._write(*self._state)  # at once: who stops the robot finds it stopped when the answer comes

    def _handle(self, message: Message) -> None:
        answer = self.requests.get(message.name)
        if answer is None:
            known = ", ".join(self.requests)
            message.refuse(f"it knows {known}, not '{message.name}'.")
            return
        try:
            message.reply(answer(message.payload))
        except DeviceError as error:
            message.refuse(str(error))
