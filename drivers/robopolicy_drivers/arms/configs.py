"""What the configs of all arms have in common. Imports no numpy and no vendor's package."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from robopolicy_datasets.errors import ConfigError, unknown_name
from robopolicy_drivers.safety.configs import SafetyConfig
from robopolicy_drivers.setting_checks import require_numbers, require_rotation

ACTIONS = ("pose", "joint")


@dataclass
class ArmConfig:
    """An arm behind the driver interface.

    Attributes:
        embodiment: name or file of the arm's body.
        action: pose (of the tool in the world: position (3) [m], axis-angle (3) [rad]) or joint [rad].
        rate_hz: of its control loop.
        base_position: where its base stands in the world (3) [m].
        base_quaternion: how its base stands in the world (4, wxyz).
        workspace_lower: lowest corner of the box in the world that the tool stays in (3) [m].
        workspace_upper: its highest corner (3) [m].
        force_limit: at the tool, where the arm measures one: the stop latches beyond it [N].
        safety: what the safety gate does where a limit is exceeded.

    Raises:
        UnknownNameError: there is no such kind of action.
        ConfigError: the rate or the force limit is not above 0, or a place is none.
    """

    target: ClassVar[str] = "robopolicy_drivers.arms.arm:Arm"
    link: ClassVar[str]  # "module:class" of the vendor's ArmLink
    measures_wrench: ClassVar[bool] = False

    embodiment: str = ""
    action: str = "pose"
    rate_hz: float = 125.0
    base_position: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    base_quaternion: list[float] = field(default_factory=lambda: [1.0, 0.0, 0.0, 0.0])
    workspace_lower: list[float] = field(default_factory=lambda: [-2.0, -2.0, -2.0])
    workspace_upper: list[float] = field(default_factory=lambda: [2.0, 2.0, 2.0])
    force_limit: float = 40.0
    safety: SafetyConfig = field(default_factory=SafetyConfig)

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise unknown_name("action of an arm", self.action, ACTIONS)
        if not self.rate_hz > 0 or not self.force_limit > 0:
            raise ConfigError(
                f"robot.rate_hz is {self.rate_hz} and robot.force_limit {self.force_limit}; give numbers "
                "above 0."
            )
        for name in ("base_position", "workspace_lower", "workspace_upper"):
            require_numbers(f"robot.{name}", getattr(self, name), 3)
        require_rotation("robot.base_quaternion", self.base_quaternion)

    @property
    def address(self) -> str:
        """Where the arm is reached; with its vendor's name, the name of the robot for everybody."""
        raise NotImplementedError
