"""What a person wants, in the same words for every device that steers by changes.

Axes are the person's: away, to the left, up. A device shows what it reads as samples of a ring, in a process
of its own; buttons are counted there, so that no short press is missed by whoever reads seldom.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.spec import Feature, Spec
from robopolicy_drivers.teleop.configs import Button

Array = NDArray[np.float64]

BUTTONS = tuple(Button)
SPEC = Spec(
    (
        Feature("twist", (6,), "float64"),
        Feature("engaged", (), "bool"),
        Feature("presses", (len(BUTTONS),), "int64"),
    ),
    (),
)


@dataclass(frozen=True)
class Steering:
    """What a device says at one moment.

    Attributes:
        twist: how fast the tool is to move along the three axes, and to turn about them ``[6]``; from -1 to
            1, the shares of the largest speeds.
        engaged: whether the clutch is closed; while it is open nothing moves.
        presses: how often each button of ``BUTTONS`` was pressed since the device was opened ``[6]``.
    """

    twist: Array
    engaged: bool
    presses: NDArray[np.int64]

    def sample(self) -> dict[str, NDArray]:
        """Returns it by the keys of ``SPEC``."""
        return {"twist": self.twist, "engaged": np.array(self.engaged), "presses": self.presses}

    @classmethod
    def of_sample(cls, sample: Mapping[str, NDArray]) -> Steering:
        """Returns what ``sample`` has made a sample."""
        return cls(np.asarray(sample["twist"]), bool(sample["engaged"]), np.asarray(sample["presses"]))


class PressCounter:
    """Counts how often each button went down; what is down at the beginning may be stuck, and counts not."""

    def __init__(self) -> None:
        self._counts = np.zeros(len(BUTTONS), np.int64)
        self._down: frozenset[Button] | None = None

    def update(self, down: Collection[Button]) -> NDArray[np.int64]:
        """Returns the counts ``[6]`` so far.

        Args:
            down: the buttons that are down now, or were since the last call.
        """
        now = frozenset(down)
        before = now if self._down is None else self._down
        for button in now - before:
            self._counts[BUTTONS.index(button)] += 1
        self._down = now
        return self._counts.copy()


class NewPresses:
    """Tells which buttons were pressed since it was last asked; those before the first time do not count."""

    def __init__(self) -> None:
        self._seen: NDArray[np.int64] | None = None

    def of(self, presses: NDArray[np.int64]) -> frozenset[Button]:
        """Returns the buttons whose count ``[6]`` has grown."""
        seen = presses if self._seen is None else self._seen
        self._seen = presses.copy()
        return frozenset(button for button, new in zip(BUTTONS, presses > seen, strict=True) if new)


class Rest:
    """Lets nothing pass before everything was let go of once.

    A stick that is held, drifts or sticks when the device is opened moves no robot.
    """

    def __init__(self) -> None:
        self.seen = False

    def admit(self, twist: Array, *, held: bool) -> Array:
        """Returns ``twist [6]``, or zeros before the first rest.

        Args:
            twist: after the dead zone.
            held: whether the button of the clutch is down, where the device has one.
        """
        self.seen |= not (held or twist.any())
        return twist if self.seen else np.zeros(6)


def without_dead_zone(axes: Array, dead_zone: float) -> Array:
    """Returns axes that are 0 up to the dead zone and grow from there to -1 or 1, without a jump.

    Args:
        axes: of any shape; beyond -1 and 1 they are cut.
        dead_zone: from 0 to below 1; what a stick at rest may show.
    """
    size = np.abs(np.clip(axes, -1.0, 1.0))
    return np.sign(axes) * np.maximum(size - dead_zone, 0.0) / (1.0 - dead_zone)
