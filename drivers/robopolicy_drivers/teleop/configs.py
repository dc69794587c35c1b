"""Configs of the teleoperation devices. Imports neither pygame nor numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from robopolicy_datasets.errors import ConfigError, unknown_name
from robopolicy_drivers.hosting.facts import DeviceFacts, Evidence


class Button(StrEnum):
    """What a person asks for at once, whichever button or key it is on a device."""

    GRIPPER = "gripper"
    """Closes an open gripper, opens a closed one."""
    TAKE_OVER = "take_over"
    """Begins an episode; during a deployment takes the robot over, and hands it back."""
    SUCCESS = "success"
    """Ends the episode, which is kept: the task was done."""
    DISCARD = "discard"
    """Ends the episode, which is thrown away; during a deployment it has failed."""
    END = "end"
    """Ends it all; what was kept stays."""
    NEXT = "next"
    """Steers the next robot; after the last one all of them, then the first."""


class Frame(StrEnum):
    """Whose axes a person steers along, or turns about."""

    VIEW = "view"
    """The person's: away from them, to the left, up."""
    TOOL = "tool"
    """The tool's own x, y and z."""


@dataclass
class SteeringConfig:
    """What all devices have in common that move a target while they are steered.

    Attributes:
        speed: of the tool along each axis at most [m/s].
        turn_speed: of the tool about each axis at most [rad/s].
        move_frame: along whose axes: ``view`` (the person's: away, left, up) or ``tool``.
        turn_frame: about whose axes: ``view`` or ``tool``.
        view_yaw: where the person looks: 0 along the x axis of the robot's frame, from there counterclockwise
            seen from above [rad].
        closed_width: of a gripper that does not tell its smallest opening [m].
        open_width: of a gripper that does not tell its largest opening [m].

    Raises:
        ConfigError: a speed is not above 0, or a number is not finite.
        UnknownNameError: there is no such frame.
    """

    target: ClassVar[str] = "robopolicy_drivers.teleop.steered:SteeredTeleop"
    sensor: ClassVar[str] = "robopolicy_drivers.teleop.steered:SteeringDevice"
    device: ClassVar[DeviceFacts]
    source: ClassVar[str]

    speed: float = 0.15
    turn_speed: float = 0.8
    move_frame: str = Frame.VIEW
    turn_frame: str = Frame.TOOL
    view_yaw: float = 0.0
    closed_width: float = 0.0
    open_width: float = 0.085

    def __post_init__(self) -> None:
        if not (0 < self.speed < math.inf and 0 < self.turn_speed < math.inf):
            raise ConfigError(
                f"teleop.speed is {self.speed} and teleop.turn_speed {self.turn_speed}; give both above 0."
            )
        for name in ("move_frame", "turn_frame"):
            if getattr(self, name) not in tuple(Frame):
                raise unknown_name(f"teleop.{name}", getattr(self, name), tuple(Frame))
        if not (math.isfinite(self.view_yaw) and 0 <= self.closed_width < self.open_width < math.inf):
            raise ConfigError(
                f"teleop.view_yaw is {self.view_yaw}, closed_width {self.closed_width} and open_width "
                f"{self.open_width}; give a finite angle, and widths from 0, the open one larger."
            )


def _check_dead_zone(dead_zone: float) -> None:
    if not 0 <= dead_zone < 1:
        raise ConfigError(f"teleop.dead_zone is {dead_zone}; give a share from 0 to below 1.")


@dataclass
class KeyboardConfig(SteeringConfig):
    """The keyboard of this computer; in simulation, in a window that shows the task."""

    device: ClassVar[DeviceFacts] = DeviceFacts(
        protocol="X11 or Wayland, through SDL",
        sdk="pygame",
        rates="50 Hz",
        evidence=Evidence.THIRD_PARTY_PEER,
        tested_against="Xvfb with xdotool",
        modules=("pygame",),
    )
    source: ClassVar[str] = "robopolicy_drivers.teleop.keyboard:KeyboardSource"


@dataclass
class GamepadConfig(SteeringConfig):
    """A gamepad; it steers only while its left shoulder button is held.

    Attributes:
        number: of the gamepad, from 0.
        dead_zone: what sticks and triggers may show at rest, as a share of all.
    """

    device: ClassVar[DeviceFacts] = DeviceFacts(
        protocol="evdev or HID, through SDL",
        sdk="pygame",
        rates="100 Hz",
        evidence=Evidence.THIRD_PARTY_PEER,
        tested_against="SDL's virtual joystick (no real pad)",
        modules=("pygame",),
    )
    source: ClassVar[str] = "robopolicy_drivers.teleop.gamepad:GamepadSource"

    number: int = 0
    dead_zone: float = 0.12

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_dead_zone(self.dead_zone)
        if self.number < 0:
            raise ConfigError(f"teleop.number is {self.number}; give a number from 0.")


@dataclass
class SpaceMouseConfig(SteeringConfig):
    """A 3Dconnexion SpaceMouse, on Linux.

    Attributes:
        path: of the device, e.g. ``/dev/hidraw0``; empty: the first one that is found.
        dead_zone: what the puck may show at rest, as a share of all.
        buttons: what a short press of each button means: gripper, take_over, success, discard, end or next.
        long_presses: what a long press of each means (0.6 s).
    """

    device: ClassVar[DeviceFacts] = DeviceFacts(
        protocol="USB HID reports, through Linux hidraw",
        sdk="own",
        rates="about 60 to 125 Hz",
        evidence=Evidence.OWN_EMULATOR,
        tested_against="reports as in published descriptors (no real SpaceMouse)",
    )
    source: ClassVar[str] = "robopolicy_drivers.teleop.spacemouse:SpaceMouseSource"

    turn_frame: str = Frame.VIEW
    path: str = ""
    dead_zone: float = 0.08
    buttons: list[str] = field(default_factory=lambda: [Button.GRIPPER, Button.SUCCESS])
    long_presses: list[str] = field(default_factory=lambda: [Button.TAKE_OVER, Button.DISCARD])

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_dead_zone(self.dead_zone)
        for name in (*self.buttons, *self.long_presses):
            if name not in tuple(Button):
                raise unknown_name("button", name, tuple(Button))


BUTTON_DEVICES: dict[str, type[SteeringConfig]] = {
    "keyboard": KeyboardConfig,
    "gamepad": GamepadConfig,
    "spacemouse": SpaceMouseConfig,
}


@dataclass
class LeaderConfig:
    """A leader arm that a person moves by hand; the buttons are those of another device.

    Attributes:
        port: the serial port of its bus.
        calibration: file of its joints (robopolicy devices calibrate joints).
        embodiment: whose joints it has.
        buttons: whose buttons count: keyboard, gamepad or spacemouse; "next" lets the robot follow, and hold
            again.
        near: how near each joint of the leader must be to the robot's, that it follows by itself [rad].
        approach_speed: at which the robot comes to the leader when it is told to [rad/s].

    Raises:
        UnknownNameError: there is no such device with buttons.
        ConfigError: a number is not above 0.
    """

    target: ClassVar[str] = "robopolicy_drivers.teleop.leader:LeaderTeleop"
    sensor: ClassVar[str] = "robopolicy_drivers.teleop.leader:LeaderDevice"
    arm: ClassVar[str] = "robopolicy_drivers.arms.leader:LeaderArm"
    device: ClassVar[DeviceFacts] = DeviceFacts(
        protocol="Feetech servo bus, serial",
        sdk="feetech-servo-sdk",
        rates="as fast as the bus answers",
        evidence=Evidence.OWN_EMULATOR,
        tested_against="own servo buses on pseudo terminals",
        modules=("scservo_sdk", "serial"),
    )

    port: str = ""
    calibration: str = ""
    embodiment: str = "so101"
    buttons: str = "keyboard"
    near: float = 0.1
    approach_speed: float = 0.4

    def __post_init__(self) -> None:
        if self.buttons not in BUTTON_DEVICES:
            raise unknown_name("teleop.buttons", self.buttons, BUTTON_DEVICES)
        if not (self.near > 0 and self.approach_speed > 0):
            raise ConfigError(
                f"teleop.near is {self.near} and approach_speed {self.approach_speed}; give both above 0."
            )


@dataclass
class ReplayConfig:
    """Recorded episodes, driven once more: those of a store, one after the other.

    Attributes:
        store: whose actions are driven, a ``*.zarr``.
        episode: the first one, from 0.
        approach_speed: on the way to where an episode begins [m/s].
        approach_turn_speed: the same of rotations and joints [rad/s].

    Raises:
        ConfigError: a number is out of range.
    """

    target: ClassVar[str] = "robopolicy_drivers.teleop.replay:ReplayTeleop"
    device: ClassVar[DeviceFacts] = DeviceFacts(
        protocol="a demo store",
        sdk="own",
        rates="as recorded, interpolated",
        evidence=Evidence.OWN_EMULATOR,
        tested_against="episodes on the simulated robot",
    )

    store: str = ""
    episode: int = 0
    approach_speed: float = 0.1
    approach_turn_speed: float = 0.5

    def __post_init__(self) -> None:
        if not (self.episode >= 0 and self.approach_speed > 0 and self.approach_turn_speed > 0):
            raise ConfigError(
                f"teleop.episode is {self.episode}, approach_speed {self.approach_speed} and "
                f"approach_turn_speed {self.approach_turn_speed}; give an episode from 0 and speeds above 0."
            )
