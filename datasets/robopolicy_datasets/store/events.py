"""What happened in episodes: take-overs, corrections, preferences, remarks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from robopolicy_datasets.errors import StoreError
from robopolicy_datasets.store.blocks import BlockArray
from robopolicy_datasets.store.layout import INFO_LAYOUT, to_json_bytes
from robopolicy_datasets.store.texts import parse_object, typed_entries

_TYPES: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("kind", "text", "author"), (str,)),
    **dict.fromkeys(("start_ns", "end_ns", "episode"), (int,)),
    "data": (dict,),
}


@dataclass(frozen=True)
class Event:
    """A span of an episode with a meaning.

    Attributes:
        kind: what it is, e.g. ``"takeover"``, ``"correction"``, ``"preference"``, ``"gap"``.
        start_ns: its beginning [ns, the clock of the episode's steps].
        end_ns: its end; the same for an instant.
        text: what was said or is to be known.
        author: who or what made it.
        data: more, as plain JSON data.
        episode: the episode's index; set by the store for the events of an episode that is appended.
    """

    kind: str
    start_ns: int
    end_ns: int
    text: str = ""
    author: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    episode: int = -1

    def to_text(self) -> str:
        """Returns the JSON text that the store keeps.

        Raises:
            StoreError: it ends before it starts, or ``data`` is no plain JSON data.
        """
        if not self._is_possible():
            raise StoreError(
                f"The event '{self.kind}' lasts from {self.start_ns} to {self.end_ns} ns; "
                "it needs a kind, and an end not before its start."
            )
        try:
            return json.dumps(typed_entries(type(self), asdict(self), _TYPES), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise StoreError(f"The data of an event must be plain JSON data: {error}.") from error

    @classmethod
    def from_text(cls, text: str) -> Event:
        """Reads what ``to_text`` wrote; unknown entries are ignored.

        Raises:
            ValueError, TypeError: the text is no event.
        """
        event = cls(**typed_entries(cls, parse_object(text), _TYPES))
        if not event._is_possible():
            raise ValueError(f"an event lasts from {event.start_ns} to {event.end_ns} ns")
        return event

    def _is_possible(self) -> bool:
        return bool(self.kind) and self.start_ns <= self.end_ns


class EventFiles:
    """The array of a store's events, ``meta/events``: one JSON text each.

    Args:
        folder: where it lies; a store of the first schema has none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, episodes: int) -> list[Event]:
        """Reads the events of the first ``episodes`` episodes, those that are committed.

        Raises:
            StoreError: the array is damaged.
        """
        return [event for event in self._read_all() if event.episode < episodes]

    def changed_files(self, episodes: int, new: Sequence[Event]) -> dict[Path, bytes]:
        """Builds the files that hold ``new`` events after those of the first ``episodes`` episodes.

        What an append that was never committed has left is dropped.
        """
        everything = self._read_all()
        kept = [event for event in everything if event.episode < episodes]
        if not new and len(kept) == len(everything):
            return {}
        self.folder.mkdir(exist_ok=True)
        array = BlockArray(self.folder, INFO_LAYOUT)
        if len(kept) == len(everything):
            files = array.extended_texts(len(kept), [event.to_text() for event in new])
        else:
            files = array.extended_texts(0, [event.to_text() for event in [*kept, *new]])
        return {**files, self.folder / "zarr.json": to_json_bytes(INFO_LAYOUT.metadata(len(kept) + len(new)))}

    def _read_all(self) -> list[Event]:
        if not (self.folder / "zarr.json").is_file():
            return []
        array = BlockArray.open(self.folder, INFO_LAYOUT)
        array.check_blocks(array.rows)
        try:
            return [Event.from_text(text) for text in array.read_texts(0, array.rows)]
        except (ValueError, TypeError) as error:
            raise StoreError(f"{self.folder} is damaged ({error}). Restore the store from a copy.") from error


def of_episode(events: Sequence[Event], episode: int) -> tuple[Event, ...]:
    """Returns ``events`` as those of an episode."""
    return tuple(replace(event, episode=episode) for event in events)
