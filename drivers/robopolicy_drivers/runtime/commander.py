"""Commander: from what is planned for a step to the target that is commanded, always on from the last one.

Whatever the source (a chunk, a person, a hold, the way back), the target lies at most one step's way from the
last commanded one. So chunks that disagree, a hand-over or a late answer never make the robot jump.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError
from robopolicy_drivers.runtime.spaces import FeatureSpace

Array = NDArray[np.float64]


@dataclass(frozen=True)
class JumpLimit:
    """The longest way from one commanded target to the next.

    Positions in metres, rotations, angles and joints are limited; a gripper's width, which the device
    approaches at its own speed, is not, nor are numbers of other units.

    Attributes:
        space: of the targets.
        metre: of each position [m].
        radian: of each rotation, angle and joint [rad].

    Raises:
        ConfigError: a limit is not above 0.
    """

    space: FeatureSpace
    metre: float
    radian: float

    def __post_init__(self) -> None:
        if not (self.metre > 0 and self.radian > 0):
            raise ConfigError(f"A jump limit of {self.metre} m and {self.radian} rad allows no motion.")

    def admit(self, target: Array, before: Array) -> Array:
        """Returns ``target [A]``, or where it is too far from ``before [A]`` a point on the way there."""
        way = self.space.difference(before, target)
        metres, radians = self.space.lengths(way)
        excess = max(metres / self.metre, radians / self.radian)
        if excess <= 1:
            return target
        return self.space.with_others(self.space.moved(before, way / excess), target)


class Commander:
    """See the module text.

    Args:
        limit: of a step.
        retreat_steps: how many targets back the way is remembered.

    Attributes:
        last: what was really sent last ``[A]``; None while nothing was.
    """

    def __init__(self, limit: JumpLimit, retreat_steps: int) -> None:
        self.last: Array | None = None
        self._limit = limit
        self._way: deque[Array] = deque(maxlen=retreat_steps)
        self._halfway = False

    def toward(self, target: Array) -> Array:
        """Returns what to command ``[A]`` in order to get to ``target [A]``."""
        return target if self.last is None else self._limit.admit(target, self.last)

    def back(self) -> Array | None:
        """Returns what to command next on the way back ``[A]``; None where nothing was commanded.

        The last targets in reverse, at half their speed; where they are used up the last one is held. A
        gripper stays as it is: what it holds must not fall.
        """
        if self.last is None or not self._way:
            return self.last
        space = self._limit.space
        self._halfway = not self._halfway
        goal = space.between(self.last, self._way[-1], 0.5) if self._halfway else self._way.pop()
        return self._limit.admit(space.with_others(goal, self.last), self.last)

    def sent(self, target: NDArray, *, forward: bool) -> None:
        """Remembers what was sent ``[A]``; ``forward``: as a step of the way, not a hold or a step back."""
        if forward and self.last is not None:
            self._way.append(self.last)
            self._halfway = False
        self.last = np.array(target, np.float64)
