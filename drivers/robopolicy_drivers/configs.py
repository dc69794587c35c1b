"""Config of a robot that is put together; imports no driver."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass
class CompositeConfig:
    """Several devices as one robot: arms, grippers, vehicles, sensors and cameras.

    Each part has a name of your choice and says which driver it is; the rest are that driver's settings, e.g.
    ``robot.parts.arm.driver=franka robot.parts.arm.host=192.168.0.2``. Their order decides: a gripper and a
    sensor belong to the arm or vehicle before them.

    Attributes:
        parts: the parts by name: a mapping of ``driver`` and its settings.
        file: a YAML file with such a mapping; what is given as ``parts`` comes on top of it.
    """

    target: ClassVar[str] = "robopolicy_drivers.composing:make_composite"

    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    file: str = ""
