"""What stands between every command and every device, inside the device's own process."""

from robopolicy_drivers.safety.checks import Check, ForceLimit, Measured, TiltLimit, Workspace
from robopolicy_drivers.safety.gate import SafetyGate
from robopolicy_drivers.safety.limits import Mode, MotionLimits, SafetyConfig
from robopolicy_drivers.safety.log import SafetyEvent, SafetyLog
from robopolicy_drivers.safety.steps import StepLimit

__all__ = [
    "Check",
    "ForceLimit",
    "Measured",
    "Mode",
    "MotionLimits",
    "SafetyConfig",
    "SafetyEvent",
    "SafetyGate",
    "SafetyLog",
    "StepLimit",
    "TiltLimit",
    "Workspace",
]
