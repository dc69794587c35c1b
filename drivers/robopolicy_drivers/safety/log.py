"""What the safety gate did, as spans of time."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

from robopolicy_datasets.store.events import Event

_TOGETHER_NS = 100_000_000  # what happens again within this time is one event
_KEPT = 1000


@dataclass
class SafetyEvent:
    """A limit that was exceeded for a while, or a stop.

    Attributes:
        limit: which, e.g. ``"velocity"`` or ``"stop"``.
        mode: what was done, e.g. ``"clip"``.
        start_ns, end_ns: from when to when [ns, monotonic].
        text: for people: what was given and what is allowed, where it was worst.
        excess: how far beyond the limit, as a share of it, at its worst.
        count: control ticks.
    """

    limit: str
    mode: str
    start_ns: int
    end_ns: int
    text: str
    excess: float = 0.0
    count: int = 1

    def to_event(self) -> Event:
        """Returns the event that a demo store keeps."""
        data: dict[str, Any] = asdict(self)
        return Event(
            "safety", data.pop("start_ns"), data.pop("end_ns"), data.pop("text"), "safety gate", data
        )


class SafetyLog:
    """The newest events of a gate; older ones are counted.

    Attributes:
        forgotten: events that found no room.
    """

    def __init__(self) -> None:
        self.forgotten = 0
        self._events: deque[SafetyEvent] = deque()
        self._newest: dict[str, SafetyEvent] = {}

    def note(self, limit: str, mode: str, now_ns: int, text: str, excess: float = 0.0) -> None:
        """Notes that a limit is exceeded at this moment."""
        last = self._newest.get(limit)
        if last is not None and now_ns - last.end_ns <= _TOGETHER_NS and last.mode == mode:
            last.end_ns, last.count = now_ns, last.count + 1
            if excess > last.excess:
                last.excess, last.text = excess, text
            return
        event = SafetyEvent(limit, mode, now_ns, now_ns, text, excess)
        self._newest[limit] = event
        self._events.append(event)
        if len(self._events) > _KEPT:
            self._events.popleft()
            self.forgotten += 1

    def events(self) -> list[SafetyEvent]:
        """Returns the events that are kept, oldest first."""
        return list(self._events)
