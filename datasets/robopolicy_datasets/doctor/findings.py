"""What the checks report: one finding a fault, with where it is and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

HEADER = ("severity", "code", "episode", "steps", "key", "what to do")


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """Spoils a training or cannot be read; ``repair`` leaves it out."""
    WARNING = "warning"
    """Probably a fault of the recording; look at it."""
    NOTE = "note"
    """Unusual, and worth knowing."""


def counted(count: int, noun: str) -> str:
    """Returns a count with its noun, e.g. ``"1 gap"`` and ``"2 gaps"``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


@dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        code: the fault's name, e.g. ``"time_gap"``.
        severity: how bad it is.
        message: what was found, what is expected, and what to do.
        episode: its number in the store; ``None`` where the whole store is meant.
        key: the feature; ``""`` where none is meant.
        steps: (first, last) step of the episode, both included; ``None`` where all are meant.
    """

    code: str
    severity: Severity
    message: str
    episode: int | None = None
    key: str = ""
    steps: tuple[int, int] | None = None

    def row(self) -> tuple[str, ...]:
        """Returns the cells of a table with the columns of ``HEADER``."""
        steps = "" if self.steps is None else str(self.steps[0])
        if self.steps is not None and self.steps[1] > self.steps[0]:
            steps += f"-{self.steps[1]}"
        episode = "" if self.episode is None else str(self.episode)
        return (self.severity.value, self.code, episode, steps, self.key, self.message)

    def to_json(self) -> dict[str, Any]:
        """Returns plain data."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "episode": self.episode,
            "key": self.key,
            "steps": None if self.steps is None else list(self.steps),
            "message": self.message,
        }
