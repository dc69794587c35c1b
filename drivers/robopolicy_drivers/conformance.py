"""``check_driver``: whether a class really behaves as a ``Robot``. Third-party drivers can run it too.

It moves nothing: the only target that it commands is the one that holds the present state, where the robot's
action is a Cartesian pose with a gripper width or joint positions; other action kinds are not commanded.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import DeviceError, RobopolicyError
from robopolicy_datasets.spec import Spec
from robopolicy_drivers.interfaces import Robot

_HOLD_KEYS = {
    "pose_width": ("robot0_eef_pos", "robot0_eef_rot_axis_angle", "robot0_gripper_width"),
    "joint": ("robot0_joint_pos",),
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
    check = _Check(make_robot())
    try:
        check.run()
    finally:
        check.robot.close()
    if check.problems:
        raise DeviceError("The driver does not conform: " + " ".join(check.problems))
    return check.passed


class _Check:
    """Collects what holds and what does not."""

    def __init__(self, robot: Robot) -> None:
        self.robot = robot
        self.passed: list[str] = []
        self.problems: list[str] = []

    def run(self) -> None:
        spec = self.robot.spec
        self.that(
            isinstance(spec, Spec) and len(spec.action) == 1,
            "spec with one action is there while disconnected",
        )
        self.refuses(lambda: self.robot.state(), "state() before connect() is refused", mention="connect")
        self.robot.connect()
        time_ns, state = self.robot.state()
        self._state_fits(spec, time_ns, state)
        self._time_goes_on(time_ns)
        self._commands(spec, state)
        self.robot.hold()
        self.that(self.robot.state()[0] >= time_ns, "state() works after hold()")
        self._stops(spec, state)
        self.robot.close()
        self.robot.close()
        self.passed.append("close() may be called twice")
        self.refuses(lambda: self.robot.state(), "state() after close() is refused", mention="connect")

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

    def _state_fits(self, spec: Spec, time_ns: int, state: dict[str, NDArray]) -> None:
        self.that(isinstance(time_ns, int), "the time of a state is an int")
        self.that(
            abs(now_ns() - time_ns) < seconds_to_ns(5.0), "the time of a state is the monotonic clock's"
        )
        for feature in spec.observation:
            value = state.get(feature.key)
            fits = (
                value is not None and value.shape == feature.shape and value.dtype == np.dtype(feature.dtype)
            )
            self.that(fits, f"state() has {feature.describe()}")

    def _time_goes_on(self, first_ns: int) -> None:
        times = [first_ns]
        deadline = now_ns() + seconds_to_ns(_NEW_STATE_TIMEOUT_S)
        while times[-1] == first_ns and now_ns() < deadline:
            time.sleep(0.01)
            times.append(self.robot.state()[0])
        self.that(times[-1] > first_ns, f"a newer state comes within {_NEW_STATE_TIMEOUT_S:g} s")
        self.that(times == sorted(times), "the time of states never goes back")

    def _stops(self, spec: Spec, state: dict[str, NDArray]) -> None:
        """A stop latches, tells its reason, and can be released."""
        target = holding_target(spec, state)
        self.robot.stop("conformance check")
        self.that(
            any(event.text == "conformance check" for event in self.robot.safety_events()),
            "a stop is among safety_events() with its reason",
        )
        if target is not None:
            soon = now_ns() + seconds_to_ns(0.1)
            self.refuses(
                lambda: self.robot.command(target, soon),
                "a command after stop() is refused",
                mention="conformance check",
            )
        self.robot.release()
        if target is not None:
            self.robot.command(target, now_ns() + seconds_to_ns(0.1))
        self.robot.hold()
        self.passed.append("release() lets commands pass again")

    def _commands(self, spec: Spec, state: dict[str, NDArray]) -> None:
        action = spec.action[0]
        soon = now_ns() + seconds_to_ns(0.1)
        longer = np.zeros(action.size + 1)
        self.refuses(
            lambda: self.robot.command(longer, soon),
            "a target that is too long is refused",
            mention=str(action.size),
        )
        self.refuses(
            lambda: self.robot.command(np.full(action.shape, np.nan), soon),
            "a NaN target is refused",
            mention="finite",
        )
        target = holding_target(spec, state)
        if target is not None:
            sent = self.robot.command(target, soon)
            self.that(
                np.shape(sent) == action.shape, "command() returns what was sent, of the action's shape"
            )


def holding_target(spec: Spec, state: dict[str, NDArray]) -> NDArray | None:
    """Returns the target ``[A]`` that holds the present state; None for kinds of actions that have none.

    Args:
        spec: of the robot.
        state: what it measures, by key.
    """
    keys = _HOLD_KEYS.get(spec.action[0].kind, ())
    if not keys or any(key not in state for key in keys):
        return None
    return np.concatenate([np.ravel(state[key]) for key in keys])
