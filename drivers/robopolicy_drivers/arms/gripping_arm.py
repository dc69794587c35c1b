"""An arm whose gripper hangs on the same connection: one process, one device, two safety gates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.registry import load_target
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import Event
from robopolicy_drivers.arms.arm import Arm, ArmController, arm_spec
from robopolicy_drivers.arms.configs import ArmConfig
from robopolicy_drivers.arms.link import ArmLink
from robopolicy_drivers.embodiments import Embodiment, load_embodiment
from robopolicy_drivers.grippers.gripper import WIDTH, GripperController, width_feature
from robopolicy_drivers.grippers.link import GripperLink
from robopolicy_drivers.hosting.robot_loop import Controller, State, serve_robot
from robopolicy_drivers.realtime.child import DeviceChannel


class GrippingLink(ArmLink, Protocol):
    """An ``ArmLink`` that moves a gripper too.

    What is sent to the gripper may wait for the next ``send`` of the arm; faults are told by the arm.
    """

    @property
    def gripper(self) -> GripperLink:
        """The gripper's side; opened, recovered and closed with the arm."""


class GrippingArm(Arm):
    """An arm and its gripper; the last number of the action is the gripper's opening [m].

    Args:
        config: of a vendor's arm whose link is a ``GrippingLink``.

    Attributes:
        config: as given.
        embodiment: its kinematics, limits and gripper.
    """

    process: ClassVar[str] = "robopolicy_drivers.arms.gripping_arm:control_gripping_arm"

    @property
    def openings(self) -> tuple[float, float]:
        """The gripper's smallest and largest opening [m]."""
        return _openings(self.embodiment)

    def _admitted(self, target: NDArray[np.float64]) -> NDArray[np.float64]:
        target[-1] = np.clip(target[-1], *self.openings)
        return target

    def _described(self) -> Spec:
        return gripping_spec(self.config, self.embodiment)


def gripping_spec(config: ArmConfig, embodiment: Embodiment) -> Spec:
    """Returns what an arm with its gripper measures and takes."""
    arm, rate_hz = arm_spec(config, embodiment), config.rate_hz
    poses = config.action == "pose"
    action = Feature(
        "action",
        (arm.action[0].size + 1,),
        kind="pose_width" if poses else "generic",
        unit="m, rad" if poses else "rad, m",
        rate_hz=rate_hz,
        frame=arm.action[0].frame,
    )
    return Spec((*arm.observation, width_feature(WIDTH, rate_hz)), (action,))


def control_gripping_arm(channel: DeviceChannel, config: ArmConfig) -> None:
    """Opens the link and moves both through their gates until the channel closes."""
    link: GrippingLink = load_target(config.link)(config)
    try:
        link.open()
        arm = ArmController(link, config)
        openings = _openings(load_embodiment(config.embodiment))
        gripper = GripperController(link.gripper, openings, rate_hz=config.rate_hz, safety=config.safety)
        controller = GrippingController(arm, gripper)
        serve_robot(channel, controller, config.rate_hz, {"home": controller.home})
    finally:
        link.close()


class GrippingController:
    """The ``Controller`` of both; where one is stopped, the other is.

    Args:
        arm: takes all of an action but the last number.
        gripper: takes the last one.
    """

    def __init__(self, arm: ArmController, gripper: Controller) -> None:
        self._arm, self._gripper = arm, gripper

    @property
    def stopped(self) -> str:
        """See ``Controller``."""
        return self._arm.stopped or self._gripper.stopped

    def command(self, target: NDArray[np.float64], at_ns: int, now_ns: int) -> None:
        """See ``Controller``."""
        self._share_stop(now_ns)
        self._arm.command(target[:-1], at_ns, now_ns)
        self._gripper.command(target[-1:], at_ns, now_ns)

    def hold(self, now_ns: int) -> None:
        """See ``Controller``."""
        self._arm.hold(now_ns)
        self._gripper.hold(now_ns)

    def home(self, now_ns: int) -> bool:
        """See ``ArmController``; the gripper goes on as it was commanded."""
        self._share_stop(now_ns)
        return self._arm.home(now_ns)

    def stop(self, reason: str, now_ns: int) -> None:
        """See ``Controller``."""
        self._arm.stop(reason, now_ns)
        self._gripper.stop(reason, now_ns)

    def release(self) -> None:
        """See ``Controller``."""
        self._arm.release()
        self._gripper.release()

    def events(self) -> Sequence[Event]:
        """See ``Controller``."""
        return sorted([*self._arm.events(), *self._gripper.events()], key=lambda event: event.start_ns)

    def observe(self) -> tuple[int, State]:
        """See ``Controller``."""
        time_ns, state = self._arm.observe()
        return time_ns, state | self._gripper.observe()[1]

    def tick(self, now_ns: int) -> None:
        """See ``Controller``. The gripper comes first: the arm's set points take its own along."""
        self._share_stop(now_ns)
        self._gripper.tick(now_ns)
        self._arm.tick(now_ns)

    def _share_stop(self, now_ns: int) -> None:
        if reason := self.stopped:
            self.stop(reason, now_ns)


def _openings(embodiment: Embodiment) -> tuple[float, float]:
    gripper = embodiment.parallel_gripper
    return gripper.min_width, gripper.max_width
