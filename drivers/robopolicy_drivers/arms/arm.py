"""Any arm that has an ``ArmLink`` as a guarded robot: interpolation, inverse kinematics, gate, link."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, seconds_to_ns
from robopolicy_datasets.errors import DeviceError
from robopolicy_datasets.geometry import pose_matrix, pose_to_vector, quaternion_to_matrix
from robopolicy_datasets.registry import load_target
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store import Event
from robopolicy_drivers.arms.configs import ArmConfig
from robopolicy_drivers.arms.link import ArmLink, ArmReading
from robopolicy_drivers.control.guarded_arm import GuardedArm
from robopolicy_drivers.control.guarded_joints import GuardedJoints
from robopolicy_drivers.control.homing import Homing, way_home
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.embodiments import Embodiment, load_embodiment
from robopolicy_drivers.hosting.robot import HostedRobot
from robopolicy_drivers.hosting.robot_loop import State, serve_robot
from robopolicy_drivers.realtime.child import DeviceChannel
from robopolicy_drivers.safety.checks import Check, ForceLimit, Workspace

WRENCH = "robot0_wrench"
_REPEAT_S = 0.05  # well within ``stale_command_s``
_NEAR_RAD = 0.05  # farther from home, something else than its controller's stiffness keeps the arm away
_NEAR_S = 2.0


class Arm(HostedRobot):
    """An arm whose action is joint positions, or poses of its tool center point in the world.

    Args:
        config: of a vendor's arm.

    Raises:
        UnknownNameError: there is no such embodiment.

    Attributes:
        config: as given.
        embodiment: its kinematics and limits.
    """

    process: ClassVar[str] = "robopolicy_drivers.arms.arm:control_arm"

    def __init__(self, config: ArmConfig) -> None:
        self.config, self.embodiment = config, load_embodiment(config.embodiment)
        super().__init__(
            self.process,
            {"config": config},
            self._described(),
            name=f"{self.embodiment.name} arm at {config.address}",
            claim=f"{self.embodiment.name}-{config.address}",
            safety=config.safety,
            rate_hz=config.rate_hz,
        )

    def go_home(self) -> None:
        """Moves slowly to the embodiment's home positions, see ``control.homing``; returns when it is there.

        It asks for it again and again, like for any longer motion: where the caller hangs, the arm holds.

        Raises:
            DeviceError: the arm was stopped, the gate lets it no further, or something keeps it away.
        """
        while not self._running().request("home"):
            time.sleep(_REPEAT_S)
        until_ns, home = now_ns() + seconds_to_ns(_NEAR_S), self.embodiment.home_positions
        while (apart := np.abs(self.state()[1]["robot0_joint_pos"] - home).max()) > _NEAR_RAD:
            if now_ns() > until_ns:
                raise DeviceError(
                    f"A joint of the {self.name} is still {apart:.3g} rad from home (allowed: {_NEAR_RAD:g} "
                    "rad); see that nothing holds the arm and that it follows commands."
                )
            time.sleep(_REPEAT_S)

    def _described(self) -> Spec:
        """Returns what it measures and takes."""
        return arm_spec(self.config, self.embodiment)


def arm_spec(config: ArmConfig, embodiment: Embodiment) -> Spec:
    """Returns what an arm measures and takes."""
    joints, rate_hz = (len(embodiment.joints),), config.rate_hz
    features = [
        Feature("robot0_eef_pos", (3,), kind="position", unit="m", rate_hz=rate_hz, frame="world"),
        Feature(
            "robot0_eef_rot_axis_angle", (3,), kind="axis_angle", unit="rad", rate_hz=rate_hz, frame="world"
        ),
        Feature("robot0_joint_pos", joints, kind="joint", unit="rad", rate_hz=rate_hz),
        Feature("robot0_joint_vel", joints, unit="rad/s", rate_hz=rate_hz),
    ]
    if config.measures_wrench:
        features.append(
            Feature(WRENCH, (6,), kind="wrench", unit="N, N m", rate_hz=rate_hz, frame="robot0_base")
        )
    if config.action == "joint":
        action = Feature("action", joints, kind="joint", unit="rad", rate_hz=rate_hz)
    else:
        action = Feature("action", (6,), kind="pose", unit="m, rad", rate_hz=rate_hz, frame="world")
    return Spec(tuple(features), (action,))


def control_arm(channel: DeviceChannel, config: ArmConfig) -> None:
    """Opens the arm's link and moves it through its gate until the channel closes."""
    link: ArmLink = load_target(config.link)(config)
    try:
        link.open()
        controller = ArmController(link, config)
        serve_robot(channel, controller, config.rate_hz, {"home": controller.home})
    finally:
        link.close()


class ArmController:
    """The ``Controller`` of an arm. A fault of the link latches the stop.

    Args:
        link: open.
        config: of the arm.
    """

    def __init__(self, link: ArmLink, config: ArmConfig) -> None:
        self._link, self._config = link, config
        self._kinematics = Kinematics(load_embodiment(config.embodiment))
        self._base = pose_matrix(
            np.array(config.base_position), quaternion_to_matrix(np.array(config.base_quaternion))
        )
        self._reading = link.read()
        self._guarded = self._standing()
        self._homing: Homing | None = None
        self._strayed = False

    @property
    def stopped(self) -> str:
        """See ``Controller``."""
        return self._guarded.gate.stopped

    def command(self, target: NDArray[np.float64], at_ns: int, now_ns: int) -> None:
        """See ``Controller``."""
        self._leave_home()
        widened = target if self._config.action == "joint" else np.append(target, 0.0)  # no gripper
        self._guarded.command(widened, at_ns, now_ns)

    def hold(self, now_ns: int) -> None:
        """See ``Controller``."""
        self._leave_home()
        self._guarded.hold(now_ns)

    def home(self, now_ns: int) -> bool:
        """Lets the arm go home, or go on home; returns whether it is commanded to be there.

        Like a command, it is to be repeated; any command ends it.

        Raises:
            DeviceError: the stop has latched, or the gate holds the arm on its way.
        """
        gate, period_s = self._guarded.gate, 1.0 / self._config.rate_hz
        gate.commanded(now_ns)
        if self._homing is None:
            up = self._base[2, :3]  # seen from the base
            way = way_home(self._kinematics, gate.sent, up, period_s, gate.allows)
            self._homing = Homing(gate, way, period_s)
        self._homing.check()
        return self._homing.arrived

    def stop(self, reason: str, now_ns: int) -> None:
        """See ``Controller``."""
        self._guarded.gate.stop(reason, now_ns)

    def release(self) -> None:
        """See ``Controller``. After a fault the arm goes on from where it stands now."""
        self._leave_home()
        if self._strayed:
            self._link.recover()
            self._reading = self._link.read()
            log = self._guarded.gate.log
            self._guarded = self._standing()
            self._guarded.gate.log = log
            self._strayed = False
        self._guarded.gate.release()

    def events(self) -> Sequence[Event]:
        """See ``Controller``."""
        return [event.to_event() for event in self._guarded.gate.log.events()]

    def observe(self) -> tuple[int, State]:
        """See ``Controller``."""
        self._reading = reading = self._link.read()
        pose = pose_to_vector(self._base @ self._kinematics.forward(reading.positions))
        state: dict[str, NDArray[Any]] = {
            "robot0_eef_pos": pose[:3],
            "robot0_eef_rot_axis_angle": pose[3:],
            "robot0_joint_pos": reading.positions,
            "robot0_joint_vel": reading.velocities,
            **self._measured(reading),
        }
        return reading.time_ns, {key: np.asarray(value, np.float32) for key, value in state.items()}

    def tick(self, now_ns: int) -> None:
        """See ``Controller``."""
        if fault := self._link.fault():
            self._strayed = True
            self._guarded.gate.stop(fault, now_ns)
        reading = self._reading
        sent = (self._homing or self._guarded).tick(
            now_ns,
            state_ns=reading.time_ns,
            position=reading.positions,
            measured=self._measured(reading),
        )
        if not self._strayed:
            self._link.send(sent)

    def _leave_home(self) -> None:
        """Drops the way home, if there is one; where the arm is on it, it brakes and goes on from there."""
        if self._homing is not None:
            self._homing = None
            self._guarded.stand()

    def _measured(self, reading: ArmReading) -> dict[str, NDArray[Any]]:
        return {} if reading.wrench is None else {WRENCH: reading.wrench}

    def _standing(self) -> GuardedArm | GuardedJoints:
        """Returns what guards the arm from where it stands."""
        config, joints = self._config, self._reading.positions
        checks: list[Check] = [ForceLimit(config.force_limit)] if config.measures_wrench else []
        lower, upper = (np.array(corner) for corner in (config.workspace_lower, config.workspace_upper))
        if config.action == "joint":
            checks.append(Workspace(lower, upper, self._tool_position))
            return GuardedJoints(
                self._kinematics.embodiment,
                joints,
                period_s=1.0 / config.rate_hz,
                config=config.safety,
                checks=checks,
            )
        return GuardedArm(
            self._kinematics,
            joints,
            0.0,
            period_s=1.0 / config.rate_hz,
            base_pose=self._base,
            config=config.safety,
            workspace=(lower, upper),
            checks=checks,
        )

    def _tool_position(self, joints: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((self._base @ self._kinematics.forward(joints))[:3, 3], np.float64)
