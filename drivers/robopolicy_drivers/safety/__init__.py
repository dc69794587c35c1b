"""What stands between every command and every device, inside the device's own process."""

from robopolicy_drivers.safety.checks import Check, ForceLimit, TiltLimit, Workspace
from robopolicy_drivers.safety.gate import SafetyGate
from robopolicy_drivers.safety.limits import Mode, MotionLimits, SafetyConfig
from robopolicy_drivers.safety.log import SafetyEvent, SafetyLog

__all__ = [
    "Check",
    "ForceLimit",
    "Mode",
    "MotionLimits",
    "SafetyConfig",
    "SafetyEvent",
    "SafetyGate",
    "SafetyLog",
    "TiltLimit",
    "Workspace",
]
