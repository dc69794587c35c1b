"""Whether a class really behaves as a ``Robot``, a ``Sensor`` or a ``Camera``. Third parties can run it too.

``check_driver`` moves nothing: the only target that it commands is the one that holds the present state,
where the robot's action is poses, openings or joint positions; other action kinds are not commanded.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import DeviceError, RobopolicyError
from robopolicy_datasets.spec import Spec
from robopolicy_drivers.interfaces import Camera, Robot, Sensor

State = dict[str, NDArray]

_HOLD_KEYS = {
    "pose_width": ("eef_pos", "eef_rot_axis_angle", "gripper_width"),
    "pose": ("eef_pos", "eef_rot_axis_angle"),
    "width": ("gripper_width",),
    "joint": ("joint_pos",),
}
_NEW_STATE_TIMEOUT_S = 2.0


def check_driver(make_robot: Callable[[], Robot]) -> list[str]:
    """Checks a robot driver against the ``Robot`` interface.

    Args:
        make_robot: builds a disconnected robot; called once.

    Returns:
        what was checked, one line each.

    Raises:
        DeviceError: lists everything that does not conform.
    """
    return _RobotCheck(make_robot()).result()


def check_sensor(make_sensor: Callable[[], Sensor]) -> list[str]:
    """Checks a driver against the ``Sensor`` interface; arguments and results as of ``check_driver``."""
    return _SensorCheck(make_sensor()).result()


def check_camera(make_camera: Callable[[], Camera]) -> list[str]:
    """Checks a driver against the ``Camera`` interface; arguments and results as of ``check_driver``."""
    return _CameraCheck(make_camera()).result()


class _Check(ABC):
    """Collects what holds and what does not; what all devices have in common."""

    reading = "read"  # the method that returns the newest sample and its time

    def __init__(self, device: Any) -> None:
        self.device = device
        self.passed: list[str] = []
        self.problems: list[str] = []

    def result(self) -> list[str]:
        """Returns what was checked; raises where something does not hold."""
        try:
            self._run()
        finally:
            self.device.close()
        if self.problems:
            raise DeviceError("The driver does not conform: " + " ".join(self.problems))
        return self.passed

    def newest(self) -> tuple[int, State]:
        newest: tuple[int, State] = getattr(self.device, self.reading)()
        return newest

    def _run(self) -> None:
        spec, call = self.device.spec, f"{self.reading}()"
        self._spec_fits(spec)
        self.refuses(self.newest, f"{call} before connect() is refused", mention="connect")
        self.device.connect()
        time_ns, sample = self.newest()
        self._sample_fits(spec, time_ns, sample)
        self._time_goes_on(time_ns)
        self._use(spec, time_ns, sample)
        self.device.close()
        self.device.close()
        self.passed.append("close() may be called twice")
        self.refuses(self.newest, f"{call} after close() is refused", mention="connect")

    @abstractmethod
    def _spec_fits(self, spec: Spec) -> None:
        """Checks what the device says that it measures and takes."""

    def _use(self, spec: Spec, time_ns: int, sample: State) -> None:  # noqa: B027 (a sensor does no more)
        """Checks what only this sort of device does."""

    def that(self, holds: bool, what: str) -> None:
        if holds:
            self.passed.append(what)
        else:
            self.problems.append(f"Expected: {what}.")

    def refuses(self, action: Callable[[], object], what: str, *, mention: str) -> None:
        """Checks that an action raises one of our errors whose text has the word ``mention``."""
        try:
            action()
        except RobopolicyError as error:
            self.that(mention in str(error), f"{what}, and the message has '{mention}' (it is: {error})")
        except Exception as error:  # a driver under test may raise anything
            self.problems.append(
                f"Expected: {what} with a RobopolicyError, not {type(error).__name__}: {error}."
            )
        else:
            self.problems.append(f"Expected: {what}; nothing was raised.")

    def _sample_fits(self, spec: Spec, time_ns: int, sample: State) -> None:
        self.that(isinstance(time_ns, int), f"the time of a {self.reading} is an int")
        recent = abs(now_ns() - time_ns) < seconds_to_ns(5.0)
        self.that(recent, f"the time of a {self.reading} is the monotonic clock's")
        for feature in spec.observation:
            value = sample.get(feature.key)
            fits = (
                value is not None and value.shape == feature.shape and value.dtype == np.dtype(feature.dtype)
            )
            self.that(fits, f"{self.reading}() has {feature.describe()}")

    def _time_goes_on(self, first_ns: int) -> None:
        times = [first_ns]
        deadline = now_ns() + seconds_to_ns(_NEW_STATE_TIMEOUT_S)
        while times[-1] == first_ns and now_ns() < deadline:
            time.sleep(0.01)
            times.append(self.newest()[0])
        self.that(times[-1] > first_ns, f"a newer {self.reading} comes within {_NEW_STATE_TIMEOUT_S:g} s")
        self.that(times == sorted(times), f"the time of a {self.reading} never goes back")


class _SensorCheck(_Check):
    def _spec_fits(self, spec: Spec) -> None:
        measures = isinstance(spec, Spec) and bool(spec.observation) and not spec.action
        self.that(measures, "spec with observations and no action is there while disconnected")


class _CameraCheck(_SensorCheck):
    def _spec_fits(self, spec: Spec) -> None:
        super()._spec_fits(spec)
        self.that(all(feature.is_image for feature in spec.observation), "all that it delivers is images")


class _RobotCheck(_Check):
    reading = "state"

    def _spec_fits(self, spec: Spec) -> None:
        acts = isinstance(spec, Spec) and len(spec.action) == 1
        self.that(acts, "spec with one action is there while disconnected")

    def _use(self, spec: Spec, time_ns: int, sample: State) -> None:
        self._commands(spec, sample)
        self.device.hold()
        self.that(self.newest()[0] >= time_ns, "state() works after hold()")
        self._stops(spec, sample)

    def _stops(self, spec: Spec, state: State) -> None:
        """A stop latches, tells its reason, and can be released."""
        target = holding_target(spec, state)
        self.device.stop("conformance check")
        self.that(
            any(event.text == "conformance check" for event in self.device.safety_events()),
            "a stop is among safety_events() with its reason",
        )
        if target is not None:
            soon = now_ns() + seconds_to_ns(0.1)
            self.refuses(
                lambda: self.device.command(target, soon),
                "a command after stop() is refused",
                mention="conformance check",
            )
        self.device.release()
        if target is not None:
            self.device.command(target, now_ns() + seconds_to_ns(0.1))
        self.device.hold()
        self.passed.append("release() lets commands pass again")

    def _commands(self, spec: Spec, state: State) -> None:
        action = spec.action[0]
        soon = now_ns() + seconds_to_ns(0.1)
        longer = np.zeros(action.size + 1)
        self.refuses(
            lambda: self.device.command(longer, soon),
            "a target that is too long is refused",
            mention=str(action.size),
        )
        self.refuses(
            lambda: self.device.command(np.full(action.shape, np.nan), soon),
            "a NaN target is refused",
            mention="finite",
        )
        target = holding_target(spec, state)
        if target is not None:
            sent = self.device.command(target, soon)
            self.that(
                np.shape(sent) == action.shape, "command() returns what was sent, of the action's shape"
            )


def holding_target(spec: Spec, state: State) -> NDArray | None:
    """Returns the target ``[A]`` that holds the present state; None for kinds of actions that have none.

    Args:
        spec: of the robot.
        state: what it measures, by key.
    """
    names = _HOLD_KEYS.get(spec.action[0].kind, ())
    robots = range(sum(key.endswith(f"_{names[0]}") for key in state) if names else 0)
    keys = [f"robot{robot}_{name}" for robot in robots for name in names]
    if not keys or any(key not in state for key in keys):
        return None
    target = np.concatenate([np.ravel(state[key]) for key in keys])
    return target if target.shape == spec.action[0].shape else None
