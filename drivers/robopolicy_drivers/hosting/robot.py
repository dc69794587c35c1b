"""A robot whose control loop and safety gate run in a process of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, ns_to_seconds
from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.hosting.device import HostedDevice
from robopolicy_drivers.realtime.sections import CycleSummary
from robopolicy_drivers.realtime.statistics import LatenessSummary
from robopolicy_drivers.runtime.alignment import state_at
from robopolicy_drivers.safety.configs import SafetyConfig

if TYPE_CHECKING:
    from robopolicy_datasets.store.events import Event

FARTHEST_S = 60.0
STOPPED = Feature("stopped", (), "bool")  # hidden: whether the stop has latched
_REMEMBERED_S = 2.0
_POSE = "position (3) [m], axis-angle (3) [rad]"
_LAYOUTS = {
    "pose": _POSE,
    "pose_width": f"{_POSE} and gripper width (1) [m] of each robot",
    "joint": "one angle a joint [rad]",
    "width": "the gripper's width [m]",
}


class HostedRobot(HostedDevice):
    """The ``Robot`` interface on a process that runs ``robot_loop.RobotLoop``.

    Args:
        target: ``"module:function"`` that runs in the process.
        arguments: for the function.
        spec: what is measured, and the one action.
        name: for messages.
        claim: name of the robot, the same for everybody who could move it.
        safety: settings of the gate.
        rate_hz: states per second; two seconds of them are remembered.
        hidden: features that the process writes besides the observation and ``STOPPED``.
        start_timeout_s: until the process is ready [s].
    """

    def __init__(
        self,
        target: str,
        arguments: Mapping[str, Any],
        spec: Spec,
        *,
        name: str,
        claim: str,
        safety: SafetyConfig,
        rate_hz: float,
        hidden: Sequence[Feature] = (),
        start_timeout_s: float = 60.0,
    ) -> None:
        super().__init__(
            target,
            arguments,
            spec,
            name=name,
            slots=max(2, round(_REMEMBERED_S * rate_hz)),
            hidden=(*hidden, STOPPED),
            claim=claim,
            start_timeout_s=start_timeout_s,
        )
        self._safety = safety
        self._late_s = 0.0  # how late states arrive [s]

    @property
    def safety(self) -> SafetyConfig:
        """What the safety gate does where a limit is exceeded."""
        return self._safety

    def state(self) -> tuple[int, dict[str, NDArray]]:
        """Returns the newest state and its time [ns, monotonic]."""
        record = self._newest()
        return record.time_ns, {feature.key: record.data[feature.key] for feature in self.spec.observation}

    def state_at(self, time_ns: int) -> tuple[int, dict[str, NDArray]]:
        """Returns the state at ``time_ns`` and its time [ns, monotonic].

        It is interpolated between the records around it; of times that lie more than two seconds back, or
        after the newest state, it is the state that is nearest.
        """
        self._running().check()
        return state_at(self.ring, self.spec.observation, time_ns)

    def command(self, target: NDArray, at_ns: int) -> NDArray:
        """Asks the robot to be at a target at a time; does not wait.

        Args:
            target: in the layout of the spec's action ``[A]``.
            at_ns: when [ns, monotonic]; a time that is past means as soon as the limits allow.

        Returns:
            The target that was sent ``[A]``.

        Raises:
            SpecError: the target has a wrong shape or is not finite.
            ConfigError: ``at_ns`` is not a time of the monotonic clock.
            DeviceError: the robot is not connected, its process failed, or it was stopped.
        """
        process, sent = self._running(), self._admitted(self._checked(target))
        if self._newest().data[STOPPED.key]:
            process.request("command", (sent, int(at_ns)))  # is refused, with the reason
        ahead_s = ns_to_seconds(at_ns - now_ns())
        if abs(ahead_s) > FARTHEST_S:
            raise ConfigError(
                f"at_ns lies {ahead_s:.0f} s ahead (allowed: {FARTHEST_S:.0f} s either way); give a time of "
                "the monotonic clock, robopolicy_datasets.clock.now_ns(), not of the wall clock."
            )
        process.send("command", (sent, int(at_ns)))
        return sent.astype(self.spec.action[0].dtype)

    def hold(self) -> None:
        """Drops all pending targets; the robot holds where it was commanded to be."""
        self._running().request("hold")

    def stop(self, reason: str) -> None:
        """Brakes and latches: nothing is commanded until ``release``."""
        self._running().request("stop", reason)
        self._await(lambda record: bool(record.data[STOPPED.key]), self._late_s)

    def release(self) -> None:
        """Releases a stop; the robot stays where it is until it is commanded.

        Raises:
            DeviceError: what stopped the robot is still there; with what to do.
        """
        self._running().request("release")
        self._await(lambda record: not record.data[STOPPED.key], self._late_s)

    def safety_events(self) -> list[Event]:
        """Returns what the safety gate did since ``connect``, oldest first."""
        events: list[Event] = self._running().request("safety_events")
        return events

    def lateness(self) -> LatenessSummary:
        """Returns how late the control ticks were since ``connect``."""
        return self._running().lateness()

    def cycles(self) -> CycleSummary:
        """Returns what the control cycles since ``connect`` consisted of."""
        return self._running().cycles()

    def _admitted(self, target: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns what of a well-formed target can be sent at all; a subclass may narrow it."""
        return target

    def _checked(self, target: NDArray) -> NDArray[np.float64]:
        given, expected = np.array(target, np.float64), self.spec.action[0]
        if given.shape != expected.shape:
            layout = _LAYOUTS.get(expected.kind)
            raise SpecError(
                f"A target of shape {given.shape} was commanded; the {self.name} takes "
                f"{expected.describe()}{f': {layout}' if layout else ''}."
            )
        if not np.isfinite(given).all():
            raise SpecError(f"The commanded target is not finite: {given.tolist()}; it was not sent.")
        return given
