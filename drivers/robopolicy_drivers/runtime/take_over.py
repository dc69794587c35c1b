"""Take-over: a person may drive the robot at any control step, and hand it back, without a bump.

While the person drives, the policy goes on in their shadow: what it would have done is kept beside what the
person did, as correction learning (DAgger) needs it.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robopolicy_datasets.errors import SpecError
from robopolicy_datasets.store.events import Event
from robopolicy_drivers.interfaces import Observation
from robopolicy_drivers.runtime.spaces import FeatureSpace

Array = NDArray[np.float64]
EVENT_KIND = "takeover"


class Operator(Protocol):
    """A person at an input device, or a script."""

    def command(self, state: Observation, last: NDArray) -> NDArray | None:
        """Returns where the robot should be next ``[A]``, or None to leave it to the policy.

        Asked at every control step, in the control thread: it must be quick.

        Args:
            state: the newest observation by key.
            last: the last target that was commanded ``[A]``; targets go on from it.
        """


class Hand(Protocol):
    """A tracked hand, e.g. of a virtual-reality controller or a phone."""

    def pose(self) -> NDArray | None:
        """Returns where it is ``[A]``, in the action's frame and layout; None: clutch open."""


class Clutch:
    """An operator whose hand moves the robot as if it held it, wherever the hand itself is.

    When the clutch closes, hand and last commanded target are noted; from then on the target moves and turns
    as the hand does since, in the robot's frame. A gripper is left as it is until the hand's width has passed
    it, and follows the hand from then on (pick-up, as with a mixing desk's faders).

    Args:
        hand: gives poses in the action's layout.
        space: of the action.
    """

    def __init__(self, hand: Hand, space: FeatureSpace) -> None:
        self._hand = hand
        self._space = space
        self._closed: tuple[Array, Array] | None = None
        self._picked_up = np.zeros(space.size, bool)

    def command(self, state: Observation, last: NDArray) -> NDArray | None:
        """See ``Operator``."""
        given = self._hand.pose()
        if given is None:
            self._closed = None
            return None
        hand = np.asarray(given, np.float64)
        if self._closed is None:
            self._closed = hand, np.array(last, np.float64)
            self._picked_up[:] = False
        return self._carried(hand, *self._closed)

    def _carried(self, hand: Array, hand_start: Array, target_start: Array) -> Array:
        """Returns ``target_start`` moved as the hand has moved since ``hand_start``; all ``[A]``."""
        target = target_start + (hand - hand_start)
        passed = (hand - target_start) * (hand_start - target_start) <= 0
        self._picked_up |= passed
        for part in self._space.parts:
            span = part.span
            if part.kind == "rotation":
                now, start, kept = (Rotation.from_rotvec(p[span]) for p in (hand, hand_start, target_start))
                target[span] = (now * start.inv() * kept).as_rotvec()
            elif part.kind == "other":
                target[span] = np.where(self._picked_up[span], hand[span], target_start[span])
        return target


class TakeOver:
    """Asks the operator and keeps the spans in which they drove.

    Args:
        operator: who may take over.
        size: A, numbers of an action.
        author: of the events.

    Attributes:
        active: whether the operator drives now.
    """

    def __init__(self, operator: Operator, size: int, author: str = "operator") -> None:
        self.active = False
        self._operator = operator
        self._size = size
        self._author = author
        self._spans: list[list[tuple[int, Array, Array | None]]] = []

    def ask(self, state: Observation, last: NDArray) -> Array | None:
        """Returns the operator's target ``[A]``; None where the policy drives.

        Raises:
            SpecError: the target has another size, or is not finite.
        """
        given = self._operator.command(state, last)
        if given is None:
            self.active = False
            return None
        target = np.array(given, np.float64)
        if target.shape != (self._size,) or not np.isfinite(target).all():
            raise SpecError(
                f"The operator's target is {target.tolist()}; an action is {self._size} finite numbers."
            )
        if not self.active:
            self._spans.append([])
        self.active = True
        return target

    def note(self, time_ns: int, human: NDArray, policy: NDArray | None) -> None:
        """Keeps both actions of a control step that the operator drove.

        Args:
            time_ns: of the observation [ns, monotonic].
            human: what was sent ``[A]``.
            policy: what the policy would have done ``[A]``, where it had a row for this step.
        """
        self._spans[-1].append((time_ns, np.array(human), None if policy is None else np.array(policy)))

    def events(self) -> list[Event]:
        """Returns one event a span, with the time and both actions of each of its steps."""
        return [self._event(span) for span in self._spans if span]

    def _event(self, span: list[tuple[int, Array, Array | None]]) -> Event:
        data = {
            "time_ns": [time_ns for time_ns, _, _ in span],
            "human": [human.tolist() for _, human, _ in span],
            "policy": [None if policy is None else policy.tolist() for _, _, policy in span],
        }
        return Event(EVENT_KIND, span[0][0], span[-1][0], author=self._author, data=data)
