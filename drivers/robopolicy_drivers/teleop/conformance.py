"""Whether a class really behaves as a ``Teleop``. Third parties can run it too; no robot is moved."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from robopolicy_datasets.errors import DeviceError, RobopolicyError
from robopolicy_drivers.interfaces import Robot, Teleop
from robopolicy_drivers.teleop.configs import Button
from robopolicy_drivers.teleop.layout import action_parts, measured_target

_POLLS = 20


def check_teleop(make_teleop: Callable[[Robot], Teleop], robot: Robot) -> list[str]:
    """Checks a teleoperation device that nobody touches meanwhile.

    Args:
        make_teleop: builds a disconnected device for a robot; called once.
        robot: connected; it is read and not commanded.

    Returns:
        what was checked, one line each.

    Raises:
        DeviceError: lists everything that does not conform.
    """
    check = _Check(make_teleop(robot), robot)
    try:
        check.run()
    finally:
        check.teleop.close()
    if check.problems:
        raise DeviceError("The device does not conform: " + " ".join(check.problems))
    return check.passed


class _Check:
    """Collects what holds and what does not."""

    def __init__(self, teleop: Teleop, robot: Robot) -> None:
        self.teleop, self._robot = teleop, robot
        self.passed: list[str] = []
        self.problems: list[str] = []

    def run(self) -> None:
        """Does it all."""
        teleop, robot = self.teleop, self._robot
        self._that(teleop.spec.action == robot.spec.action, "its spec has the robot's action")
        self._refuses_to_be_polled("before connect()")
        teleop.connect()
        state = robot.state()[1]
        last = measured_target(action_parts(robot), state)
        names = {button.value for button in Button}
        pressed: set[str] = set()
        fits = True
        for _ in range(_POLLS):
            pressed |= teleop.poll()
            target = np.asarray(teleop.command(state, last))
            fits &= target.shape == last.shape and bool(np.isfinite(target).all())
        self._that(pressed <= names, "poll() returns names of buttons")
        self._that(fits, "command() returns finite targets of the action's size")
        teleop.let_go()
        teleop.poll()
        elsewhere = last + 0.01
        near = np.abs(np.asarray(teleop.command(state, elsewhere)) - elsewhere).max() < 0.1
        self._that(bool(near), "after let_go() targets go on from the last one")
        teleop.close()
        teleop.close()
        self.passed.append("close() may be called twice")
        self._refuses_to_be_polled("after close()")

    def _that(self, holds: bool, what: str) -> None:
        if holds:
            self.passed.append(what)
        else:
            self.problems.append(f"Expected: {what}.")

    def _refuses_to_be_polled(self, when: str) -> None:
        try:
            self.teleop.poll()
        except RobopolicyError as error:
            told = "connect" in str(error)
            self._that(told, f"poll() {when} is refused, and the message has 'connect' (it is: {error})")
        except Exception as error:  # a device under test may raise anything
            self.problems.append(f"poll() {when} raised {type(error).__name__}: {error}.")
        else:
            self.problems.append(f"Expected: poll() {when} is refused; nothing was raised.")
