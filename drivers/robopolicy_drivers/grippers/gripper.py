"""Any gripper that has a ``GripperLink`` as a guarded robot of its own: a plan, a gate, a link."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import seconds_to_ns
from robopolicy_datasets.registry import load_target
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import Event
from robopolicy_drivers.grippers.configs import GripperConfig
from robopolicy_drivers.grippers.link import GripperLink
from robopolicy_drivers.hosting.robot import HostedRobot
from robopolicy_drivers.hosting.robot_loop import State, serve_robot
from robopolicy_drivers.realtime.child import DeviceChannel
from robopolicy_drivers.realtime.interpolator import WaypointInterpolator, WaypointPart
from robopolicy_drivers.safety.configs import SafetyConfig
from robopolicy_drivers.safety.gate import SafetyGate
from robopolicy_drivers.safety.limits import MotionLimits

WIDTH = "robot0_gripper_width"
_PARTS = (WaypointPart(1, kind="immediate"),)  # the gripper plans its own motion, with the config's speed
_STILL_M, _STILL_S = 5e-4, 0.15  # fingers that moved less in that time rest


class HostedGripper(HostedRobot):
    """A gripper whose action is one opening [m], of the kind ``width``.

    A stop halts fingers that move. Fingers that rest keep their grip, so that nothing is dropped.

    Args:
        config: of a vendor's gripper.

    Attributes:
        config: as given.
    """

    def __init__(self, config: GripperConfig) -> None:
        self.config = config
        super().__init__(
            "robopolicy_drivers.grippers.gripper:control_gripper",
            {"config": config},
            Spec((width_feature(WIDTH, config.rate_hz),), (width_feature("action", config.rate_hz),)),
            name=f"gripper at {config.address}",
            claim=f"gripper-{config.address}",
            safety=config.safety,
            rate_hz=config.rate_hz,
        )

    @property
    def openings(self) -> tuple[float, float]:
        """The smallest and the largest [m]."""
        return self.config.openings

    def _admitted(self, target: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.clip(target, *self.openings)


def width_feature(key: str, rate_hz: float) -> Feature:
    """Returns the feature of a gripper's opening, measured or commanded."""
    return Feature(key, (1,), kind="width", unit="m", rate_hz=rate_hz)


def control_gripper(channel: DeviceChannel, config: GripperConfig) -> None:
    """Opens the gripper's link and moves it through its gate until the channel closes."""
    link: GripperLink = load_target(config.link)(config)
    try:
        link.open()
        controller = GripperController(link, config.openings, rate_hz=config.rate_hz, safety=config.safety)
        serve_robot(channel, controller, config.rate_hz)
    finally:
        link.close()


class GripperController:
    """The ``Controller`` of a gripper. A fault of the link latches the stop.

    Args:
        link: open.
        openings: the smallest and the largest [m].
        rate_hz: of its ticks.
        safety: settings of the gate.
    """

    def __init__(
        self, link: GripperLink, openings: tuple[float, float], *, rate_hz: float, safety: SafetyConfig
    ) -> None:
        self._link, self._reading = link, link.read()
        lower, upper = openings
        unlimited = np.full(1, np.inf)
        limits = MotionLimits(np.array([lower]), np.array([upper]), unlimited, unlimited, unlimited)
        start = [min(max(self._reading[1], lower), upper)]
        self._gate = SafetyGate(start, limits, period_s=1.0 / rate_hz, config=safety)
        self._plan = WaypointInterpolator(start, _PARTS)
        self._sent = float(start[0])
        self._recent: deque[tuple[int, float]] = deque([self._reading])
        self._halted = self._strayed = False

    @property
    def stopped(self) -> str:
        """See ``Controller``."""
        return self._gate.stopped

    def command(self, target: NDArray[np.float64], at_ns: int, now_ns: int) -> None:
        """See ``Controller``."""
        self._gate.commanded(now_ns)
        self._plan.schedule(target, at_ns, now_ns)

    def hold(self, now_ns: int) -> None:
        """See ``Controller``."""
        self._plan.hold(now_ns)

    def stop(self, reason: str, now_ns: int) -> None:
        """See ``Controller``."""
        self._gate.stop(reason, now_ns)

    def release(self) -> None:
        """See ``Controller``. After a fault nothing is sent until the next command."""
        if self._strayed:
            self._link.recover()
            self._reading = self._link.read()
            self._stand_at(self._reading[1])
            self._sent = float(self._gate.sent[0])
            self._strayed = False
        self._halted = False
        self._gate.release()

    def events(self) -> Sequence[Event]:
        """See ``Controller``."""
        return [event.to_event() for event in self._gate.log.events()]

    def observe(self) -> tuple[int, State]:
        """See ``Controller``."""
        self._reading = time_ns, width = self._link.read()
        self._recent.append(self._reading)
        while self._recent[0][0] < time_ns - seconds_to_ns(_STILL_S):
            self._recent.popleft()
        return time_ns, {WIDTH: np.array([width], np.float32)}

    def tick(self, now_ns: int) -> None:
        """See ``Controller``."""
        if fault := self._link.fault():
            self._strayed = True
            self._gate.stop(fault, now_ns)
        if self._gate.stopped and not self._halted:
            self._halted = True
            self._stand_at(self._reading[1] if self._moves() else float(self._gate.sent[0]))
        time_ns, width = self._reading
        sent = self._gate.filter(
            self._plan.evaluate(now_ns), now_ns, state_ns=time_ns, measured={WIDTH: np.array([width])}
        )
        if not self._strayed and sent[0] != self._sent:
            self._sent = float(sent[0])
            self._link.send(self._sent)

    def _moves(self) -> bool:
        widths = [width for _, width in self._recent]
        return max(widths) - min(widths) > _STILL_M

    def _stand_at(self, width: float) -> None:
        """Makes an opening [m] the one that is commanded."""
        self._gate.sent = np.array([width])
        self._plan = WaypointInterpolator(self._gate.sent, _PARTS)
