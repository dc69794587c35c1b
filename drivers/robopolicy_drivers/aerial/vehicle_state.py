"""What a vehicle has said of itself so far."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from robopolicy_datasets.geometry import Array, pose_matrix


@dataclass
class VehicleState:
    """What the vehicle says of itself, in the world (east, north, up) and its body (forward, left, up).

    Attributes:
        time_ns: when its position was measured [ns, monotonic].
        position: from where its local position is 0 (3) [m].
        velocity: (3) [m/s].
        rotation: from body to world ``[3, 3]``.
        armed: whether its rotors may turn.
        landed: whether it says that it stands on the ground; None until it has said anything of that.
        custom_mode: number of its mode.
        mode: name of its mode.
    """

    time_ns: int = 0
    position: Array = field(default_factory=lambda: np.zeros(3))
    velocity: Array = field(default_factory=lambda: np.zeros(3))
    rotation: Array | None = None
    armed: bool = False
    landed: bool | None = None
    custom_mode: int = 0
    mode: str = ""

    @property
    def pose(self) -> Array:
        """Of its base ``[4, 4]``."""
        return pose_matrix(self.position, np.eye(3) if self.rotation is None else self.rotation)

    @property
    def flies(self) -> bool:
        """Whether it is in the air."""
        return self.armed and not self.landed
