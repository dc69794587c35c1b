"""Episodes and steps as people write them: ``"0-9,12"`` and ``"3:10-80,5:0-40"``, both ends included."""

from __future__ import annotations

import re

from robopolicy_datasets.errors import ConfigError

_RANGE = re.compile(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?")


def parse_episodes(text: str, count: int) -> list[int]:
    """Reads a choice of episodes.

    Args:
        text: numbers and ranges, e.g. ``"0-9,12"``; ``"all"`` for every episode.
        count: episodes that there are.

    Returns:
        The episodes' numbers, ascending, each once.

    Raises:
        ConfigError: the text is not understood, or names an episode that is not there.
    """
    if text.strip() == "all":
        return list(range(count))
    chosen: set[int] = set()
    for part in text.split(","):
        first, last = _parse_range(part, text, "0-9,12")
        if last >= count:
            there = f"episodes 0 to {count - 1}" if count else "no episodes"
            raise ConfigError(f"'{text}' names the episode {last}; the store has {there}.")
        chosen.update(range(first, last + 1))
    return sorted(chosen)


def parse_steps(text: str) -> dict[int, tuple[int, int]]:
    """Reads the steps to keep of single episodes.

    Args:
        text: ``episode:first-last`` with both steps included, e.g. ``"3:10-80,5:0-40"``.

    Returns:
        (first, last) by episode.

    Raises:
        ConfigError: the text is not understood, or names an episode twice.
    """
    found: dict[int, tuple[int, int]] = {}
    for part in text.split(","):
        number, colon, steps = part.partition(":")
        if not colon or not number.strip().isdecimal():
            raise _not_understood(part, text, "3:10-80,5:0-40")
        if int(number) in found:
            raise ConfigError(
                f"'{text}' names the episode {int(number)} twice; one range an episode is kept."
            )
        found[int(number)] = _parse_range(steps, text, "3:10-80,5:0-40")
    return found


def _parse_range(part: str, text: str, example: str) -> tuple[int, int]:
    match = _RANGE.fullmatch(part)
    if match is None:
        raise _not_understood(part, text, example)
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first:
        raise ConfigError(f"The range '{part.strip()}' ends before it begins; write '{last}-{first}'.")
    return first, last


def _not_understood(part: str, text: str, example: str) -> ConfigError:
    return ConfigError(f"'{part.strip()}' in '{text}' is not understood; write for example '{example}'.")
