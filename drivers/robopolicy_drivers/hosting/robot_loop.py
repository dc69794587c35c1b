"""The control loop in a robot's process: messages in, one tick of the controller, the state out."""

from __future__ import annotations

from abc import ABC, abstractmethod
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


class Commanded(Protocol):
    """What every robot's process can be asked, whatever moves it. All times are [ns, monotonic]."""

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


class Controller(Commanded, Protocol):
    """Moves one device through its safety gate."""

    def observe(self) -> tuple[int, State]:
        """Returns the newest state and when it was measured; called once before each ``tick``."""

    def tick(self, now_ns: int) -> None:
        """Sends the set points of this tick to the device."""


def serve_robot(
    channel: DeviceChannel,
    controller: Controller,
    rate_hz: float,
    further: Mapping[str, Callable[[int], Any]] | None = None,
) -> None:
    """Runs a controller until the channel closes; whoever opened the device closes it.

    Args:
        channel: to the parent.
        controller: of the device.
        rate_hz: ticks per second.
        further: what may be asked besides, by name; called with the time of the cycle [ns, monotonic].
    """
    loop = ControllerLoop(channel, controller, rate_hz)
    for name, answer in (further or {}).items():
        loop.offer(name, answer)
    request_punctuality()
    loop.publish()
    channel.ready()
    loop.run()


class RobotLoop(ABC):
    """Answers messages, and does the rest of a cycle as a subclass says.

    Args:
        channel: to the parent; its ring ``RING`` takes the states.
        guarded: what is asked.
        rate_hz: cycles per second.

    Attributes:
        channel: as given.
        loop: the deadlines.
        requests: what may be asked, by name.
    """

    def __init__(self, channel: DeviceChannel, guarded: Commanded, rate_hz: float) -> None:
        self.channel = channel
        self.loop = DeadlineLoop(rate_hz, channel.statistics, channel.sections)
        self.requests: dict[str, Callable[[Any], Any]] = {
            "command": self._command,
            "hold": self._hold,
            "stop": self._stop,
            "release": self._release,
            "safety_events": lambda _: list(guarded.events()),
        }
        self._guarded = guarded
        self._messages = channel.sections.section("messages")

    def run(self) -> None:
        """Cycles until the channel closes."""
        while not self.channel.closing:
            elapsed = self.loop.wait()
            with self._messages:
                for message in self.channel.messages():
                    self._handle(message)
            self.cycle(elapsed)

    def offer(self, name: str, answer: Callable[[int], Any]) -> None:
        """Lets something more be asked; it is called with the time of the cycle [ns, monotonic]."""
        self.requests[name] = lambda _: answer(self.loop.deadline_ns)

    @abstractmethod
    def cycle(self, elapsed: int) -> None:
        """Moves the robot and publishes its state, ``elapsed`` deadlines after the last cycle."""

    @abstractmethod
    def publish(self) -> Any:
        """Publishes the state as it is now."""

    def write(self, time_ns: int, state: State) -> None:
        """Writes a state into the ring, and whether the robot is stopped."""
        stopped = np.array(bool(self._guarded.stopped))
        self.channel.rings[RING].write(time_ns, {**state, STOPPED.key: stopped})

    def _command(self, payload: tuple[NDArray[np.float64], int]) -> None:
        target, at_ns = payload
        self._guarded.command(target, at_ns, self.loop.deadline_ns)

    def _hold(self, _: None) -> None:
        self._guarded.hold(self.loop.deadline_ns)

    def _stop(self, reason: str) -> None:
        self._guarded.stop(reason, self.loop.deadline_ns)
        self.publish()  # at once: who stops the robot finds it stopped when the answer comes

    def _release(self, _: None) -> None:
        self._guarded.release()
        self.publish()

    def _handle(self, message: Message) -> None:
        answer = self.requests.get(message.name)
        if answer is None:
            message.refuse(f"it knows {', '.join(self.requests)}, not '{message.name}'.")
            return
        try:
            message.reply(answer(message.payload))
        except DeviceError as error:
            message.refuse(str(error))


class ControllerLoop(RobotLoop):
    """Reads the state of a device, publishes it, and sends it set points. Arguments as of ``RobotLoop``."""

    def __init__(self, channel: DeviceChannel, controller: Controller, rate_hz: float) -> None:
        super().__init__(channel, controller, rate_hz)
        self._controller = controller
        self._observe, self._control = map(channel.sections.section, ("observe", "control"))

    def cycle(self, elapsed: int) -> None:
        """See ``RobotLoop``."""
        with self._observe:
            self.publish()
        with self._control:
            self._controller.tick(self.loop.deadline_ns)

    def publish(self) -> None:
        """Reads the state and writes it into the ring."""
        self.write(*self._controller.observe())
