"""The slow way to a target that is far: so that nothing jumps when a person or a script takes hold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, ns_to_seconds
from robopolicy_drivers.runtime.commander import JumpLimit
from robopolicy_drivers.runtime.spaces import FeatureSpace

LONGEST_STEP_S = 0.1  # a pause of the caller is no way to be made up for


class Approach:
    """Goes toward targets at bounded speeds; widths go at once.

    Args:
        space: of the targets.
        speed: of each position [m/s].
        turn_speed: of each rotation, angle and joint [rad/s].
    """

    def __init__(self, space: FeatureSpace, speed: float, turn_speed: float) -> None:
        self._space, self._speed, self._turn_speed = space, speed, turn_speed
        self.restart()

    def restart(self) -> None:
        """Forgets how long ago the last step was."""
        self._stepped_ns = now_ns()

    def toward(self, target: NDArray, last: NDArray) -> NDArray[np.float64]:
        """Returns ``target [A]``, or a point on the way there.

        Args:
            target: where to go ``[A]``.
            last: the last commanded target ``[A]``.
        """
        time_ns = now_ns()
        # Never 0, which the limit would refuse.
        elapsed_s = min(ns_to_seconds(max(time_ns - self._stepped_ns, 1)), LONGEST_STEP_S)
        self._stepped_ns = time_ns
        limit = JumpLimit(self._space, self._speed * elapsed_s, self._turn_speed * elapsed_s)
        return limit.admit(np.array(target, np.float64), np.array(last, np.float64))
