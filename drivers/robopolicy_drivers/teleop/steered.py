"""A robot's tools, steered by a device that says how fast they are to go."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, ns_to_seconds
from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.geometry import pose_from_vector
from robopolicy_drivers.interfaces import Robot
from robopolicy_drivers.teleop.configs import Button, Frame, SteeringConfig
from robopolicy_drivers.teleop.connected import Connected
from robopolicy_drivers.teleop.layout import POSE, WIDTH, ActionPart, action_parts, measured_pose
from robopolicy_drivers.teleop.steering import SPEC, Array, NewPresses, Steering
from robopolicy_drivers.teleop.target import LEAD_S, SteeringTarget, ToolTarget, view_axes
from robopolicy_drivers.teleop.watched import WatchedSensor

LONGEST_STEP_S = 0.1  # a pause of the caller is no movement to be made up for


def device_name(config: SteeringConfig) -> str:
    """Returns the name of a device, as people call it."""
    return type(config).__name__.removesuffix("Config").lower()


class SteeringDevice(WatchedSensor):
    """A device in a process of its own that says what a person wants.

    Args:
        config: of the device.
    """

    def __init__(self, config: SteeringConfig) -> None:
        super().__init__(config.source, config, SPEC, name=device_name(config))

    def steering(self) -> Steering:
        """Returns what the person wants now.

        Raises:
            DeviceError: the device was lost, or has said nothing for half a second.
        """
        return Steering.of_sample(self.recent())


class SteeredTeleop(Connected):
    """Moves targets of a robot's tools as a person steers (a ``Teleop``).

    Args:
        config: of the device.
        robot: that is steered; it need not be connected.

    Raises:
        ConfigError: the robot takes joint positions.
        SpecError: it takes what nobody can steer.

    Attributes:
        spec: the robot's action.
    """

    def __init__(self, config: SteeringConfig, robot: Robot) -> None:
        self.spec = robot.spec
        self._config = config
        self._parts = action_parts(robot)
        self._tools = _tools(self._parts)
        self._device = SteeringDevice(config)
        self._axes = view_axes(config.view_yaw)
        self._target: SteeringTarget | None = None
        self._commanded_ns = 0

    def connect(self) -> None:
        """Opens the device, in a process of its own.

        Raises:
            DeviceError: it is not there, or may not be used; says what to do.
        """
        self._device.connect()
        self._new_presses = NewPresses()
        self._steering = self._device.steering()
        self.let_go()

    def poll(self) -> frozenset[Button]:
        """Reads the device; see ``Teleop``."""
        self._steering = self._device.steering()
        pressed = self._new_presses.of(self._steering.presses)
        if self._target is not None:
            if Button.GRIPPER in pressed:
                self._target.toggle_grippers()
            if Button.NEXT in pressed:
                self._target.next_tools()
        return pressed

    def command(self, state: Mapping[str, NDArray], last: NDArray) -> Array:
        """Returns where the robot is to be ``[A]``; see ``Teleop``."""
        if self._target is None:
            self._target, self._commanded_ns = self._begin(last), now_ns()
        target = self._target
        time_ns = now_ns()
        elapsed_s = min(ns_to_seconds(time_ns - self._commanded_ns), LONGEST_STEP_S)
        self._commanded_ns = time_ns
        if self._steering.engaged:
            speeds = np.repeat([self._config.speed, self._config.turn_speed], 3)
            measured = [measured_pose(pose, state) for pose, _ in self._tools]
            target.steer(elapsed_s * speeds * self._steering.twist, self._axes, measured)
        wanted = np.array(last, np.float64)
        for (pose, width), tool in zip(self._tools, target.tools, strict=True):
            wanted[pose.span] = tool.command[:6]
            if width is not None:
                wanted[width.span] = tool.width
        return wanted

    def let_go(self) -> None:
        """Forgets where the robot was to be; see ``Teleop``."""
        self._target = None

    def close(self) -> None:
        """Closes the device; calling it again does nothing."""
        self._device.close()

    def _begin(self, last: NDArray) -> SteeringTarget:
        config = self._config
        lead = (LEAD_S * config.speed, LEAD_S * config.turn_speed)
        targets = []
        for pose, width in self._tools:
            openings = width.openings if width is not None else None
            closed, opened = openings or (config.closed_width, config.open_width)
            # The robot's own gate knows its workspace.
            lower, upper = np.array([*[-np.inf] * 6, closed]), np.array([*[np.inf] * 6, opened])
            now = opened if width is None else float(last[width.span][0])
            targets.append(ToolTarget(pose_from_vector(np.asarray(last[pose.span])), now, lower, upper, lead))
        return SteeringTarget(targets, Frame(config.move_frame), Frame(config.turn_frame))


def _tools(parts: tuple[ActionPart, ...]) -> list[tuple[ActionPart, ActionPart | None]]:
    """Returns pose and width of each tool; the width is None where it has no gripper."""
    widths = {part.number: part for part in parts if part.kind == WIDTH}
    tools = [(part, widths.get(part.number)) for part in parts if part.kind == POSE]
    unmoved = sorted({part.kind for part in parts} - {POSE, WIDTH})
    if unmoved or not tools:
        given = unmoved or [part.kind for part in parts]
        raise ConfigError(
            f"This device steers tools, and the robot takes {', '.join(given)}. Give an arm action=pose "
            "(robot.action=pose), or steer with teleop=leader."
        )
    return tools
