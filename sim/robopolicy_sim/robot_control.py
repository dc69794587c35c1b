"""The guarded controllers of the robots in a world: as many as there are robots, and one stop for all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from robopolicy_datasets.geometry import Array, invert_pose
from robopolicy_datasets.store import Event
from robopolicy_drivers.control.guarded_arm import GuardedArm
from robopolicy_drivers.control.guarded_flyer import GuardedFlyer
from robopolicy_drivers.control.guarded_tool import GuardedTool
from robopolicy_drivers.safety.configs import SafetyConfig
from robopolicy_drivers.safety.gate import SafetyGate
from robopolicy_sim.tasks.manipulation import POSE_WIDTH
from robopolicy_sim.tracking import AHEAD_STEP_S, AHEAD_STEPS, Pilot
from robopolicy_sim.worlds.body import Body
from robopolicy_sim.worlds.world import World

RATE_HZ = 125.0
PILOT_RATE_HZ = 50.0  # of predictive control, which takes some milliseconds

_AHEAD_S = AHEAD_STEP_S * np.arange(1, AHEAD_STEPS + 1)

Workspace = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Settings:
    """What the controls of all robots have in common.

    Attributes:
        period_s: time between two ticks [s].
        safety: what the gates do where a limit is exceeded.
        workspace: the box in the world that the tools stay in ``[2, 3]`` [m].
        gripper_late_ticks: ticks that the grippers are later than the tools.
    """

    period_s: float
    safety: SafetyConfig
    workspace: Workspace
    gripper_late_ticks: int


class WorldControl:
    """See the module text. All robots of a world are stopped where one of them is.

    Args:
        world: whose robots are moved.
        safety: what the gates do where a limit is exceeded.
        workspace: lowest and highest corner of the box in the world that all tools stay in ``[2, 3]`` [m].
        gripper_late_s: how much later than the tools the grippers are [s].

    Attributes:
        world: as given.
        rate_hz: at which ``tick`` is to be called.
    """

    def __init__(
        self, world: World, safety: SafetyConfig, workspace: Workspace, gripper_late_s: float = 0.0
    ) -> None:
        self.world = world
        piloted = any(robot.embodiment.base and not robot.carried for robot in world.robots)
        self.rate_hz = PILOT_RATE_HZ if piloted else RATE_HZ
        late_ticks = round(gripper_late_s * self.rate_hz)
        self._settings = Settings(1.0 / self.rate_hz, safety, workspace, late_ticks)
        self._controls = self._standing()

    @property
    def stopped(self) -> str:
        """Why the robots are stopped; empty while they are not."""
        return next((gate.stopped for gate in self._gates if gate.stopped), "")

    def commanded(self, now_ns: int) -> None:
        """Notes that a command has come, which may take effect later.

        Raises:
            DeviceError: the stop has latched.
        """
        for gate in self._gates:
            gate.commanded(now_ns)

    def command(self, target: Array, at_ns: int, now_ns: int) -> None:
        """Plans to be at ``target [7 * robots]`` at ``at_ns`` [ns, monotonic]; see ``GuardedTool``.

        Raises:
            DeviceError: the stop has latched.
        """
        for control, part in zip(self._controls, target.reshape(-1, POSE_WIDTH), strict=True):
            control.guarded.command(part, at_ns, now_ns)
        self._stop_together(now_ns)

    def hold(self, now_ns: int) -> None:
        """Drops all targets; the robots brake and hold."""
        for control in self._controls:
            control.guarded.hold(now_ns)

    def stop(self, reason: str, now_ns: int) -> None:
        """Latches the stop of every robot; the first reason is kept."""
        for gate in self._gates:
            gate.stop(reason, now_ns)

    def release(self) -> None:
        """Releases the stop."""
        for gate in self._gates:
            gate.release()

    def events(self) -> list[Event]:
        """Returns what the gates did, by its beginning; ``data["robot"]`` names the robot."""
        found = [
            replace(event, data={**event.data, "robot": f"robot{number}"})
            for number, gate in enumerate(self._gates)
            for event in (noted.to_event() for noted in gate.log.events())
        ]
        return sorted(found, key=lambda event: event.start_ns)

    def tick(self, now_ns: int) -> None:
        """Commands the servos and rotors of all robots for now."""
        for control in self._controls:
            control.tick(now_ns)
        self._stop_together(now_ns)

    def restart(self, now_ns: int) -> None:
        """Begins anew where the robots were put; that releases no stop and forgets no event."""
        stopped, logs = self.stopped, [gate.log for gate in self._gates]
        self._controls = self._standing()
        for gate, log in zip(self._gates, logs, strict=True):
            gate.log = log
            if stopped:
                gate.stop(stopped, now_ns)

    @property
    def _gates(self) -> list[SafetyGate]:
        return [control.guarded.gate for control in self._controls]

    def _stop_together(self, now_ns: int) -> None:
        if stopped := self.stopped:
            self.stop(stopped, now_ns)

    def _standing(self) -> list[Control]:
        return [_control(robot, self._settings) for robot in self.world.robots]


class Control(ABC):
    """Moves one robot.

    Args:
        robot: to move.
        settings: how.

    Attributes:
        guarded: says where to.
    """

    guarded: GuardedTool

    def __init__(self, robot: Body, settings: Settings) -> None:
        self._robot = robot
        self._widths: deque[float] = deque(maxlen=settings.gripper_late_ticks + 1)

    @abstractmethod
    def tick(self, now_ns: int) -> None:
        """Commands servos and rotors for a time [ns, monotonic]."""

    def _width(self) -> float:
        """Returns the gripper's width for this tick; the first one counts until others arrive [m]."""
        self._widths.append(self.guarded.width)
        return self._widths[0]


class ArmControl(Control):
    """Servos follow inverse kinematics. See ``Control``."""

    guarded: GuardedArm

    def __init__(self, robot: Body, settings: Settings) -> None:
        super().__init__(robot, settings)
        self.guarded = GuardedArm(
            robot.kinematics,
            robot.joint_targets,
            robot.gripper_target,
            period_s=settings.period_s,
            base_pose=robot.base_pose,
            config=settings.safety,
            workspace=settings.workspace,
        )

    def tick(self, now_ns: int) -> None:
        """See ``Control``."""
        joints = self.guarded.tick(now_ns, position=self._robot.joint_positions)
        self._robot.set_targets(joints, self._width())


class FlyingControl(Control):
    """What carries the tool flies. See ``Control``."""

    guarded: GuardedFlyer

    def __init__(self, robot: Body, settings: Settings) -> None:
        super().__init__(robot, settings)
        self.guarded = GuardedFlyer(
            robot.embodiment.flying_base,
            robot.tcp_pose,
            robot.gripper_target,
            period_s=settings.period_s,
            config=settings.safety,
            workspace=settings.workspace,
        )


class CarriedControl(FlyingControl):
    """An ideal hand carries the tool. See ``Control``."""

    def __init__(self, robot: Body, settings: Settings) -> None:
        super().__init__(robot, settings)
        self._base_at_tool = invert_pose(robot.kinematics.forward(robot.embodiment.home_positions))

    def tick(self, now_ns: int) -> None:
        """See ``Control``."""
        tool = self.guarded.tick(now_ns, self._robot.base_pose)
        self._robot.carry(tool @ self._base_at_tool)
        self._robot.set_targets([], self._width())


class PilotControl(FlyingControl):
    """Rotors and joints follow predictive control. See ``Control``."""

    def __init__(self, robot: Body, settings: Settings) -> None:
        super().__init__(robot, settings)
        self._pilot = Pilot(robot, settings.period_s)

    def tick(self, now_ns: int) -> None:
        """See ``Control``."""
        self.guarded.tick(now_ns, self._robot.base_pose)
        self._pilot.follow(self.guarded.ahead(_AHEAD_S), self._width())


def _control(robot: Body, settings: Settings) -> Control:
    """Returns the control that fits a robot's body."""
    if robot.embodiment.base is None:
        return ArmControl(robot, settings)
    kind = CarriedControl if robot.carried else PilotControl
    return kind(robot, settings)
