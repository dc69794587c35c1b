"""Demonstrations without those that failed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from numpy.typing import NDArray

from robopolicy_datasets.errors import SimulationError
from robopolicy_datasets.store import EpisodeInfo, Stream

MOST_FAILURES = 50  # demonstrations one after the other

Steps = dict[str, NDArray[Any]]
Episode = tuple[Steps, EpisodeInfo] | tuple[Steps, EpisodeInfo, dict[str, Stream]]
"""What was done at the steps, what is known of it, and the samples of streams where there are some."""

_log = logging.getLogger(__name__)


def successes(
    demonstrate: Callable[[int], Episode | None], seeds: Iterable[int], advice: str
) -> Iterator[Episode]:
    """Demonstrates one episode a seed, on and on as long as ``seeds`` does; failed ones are left out.

    Args:
        demonstrate: makes the episode of a seed; None where it broke off.
        seeds: one an episode.
        advice: a sentence for the error where nothing succeeds: what was asked for, and what to change.

    Yields:
        The successful episodes.

    Raises:
        SimulationError: too many fail one after the other.
    """
    failures = 0
    for seed in seeds:
        episode = demonstrate(seed)
        if episode is not None and episode[1].success:
            failures = 0
            yield episode
            continue
        failures += 1
        if failures == MOST_FAILURES:
            raise SimulationError(
                f"{failures} demonstrations failed one after the other (the last with seed {seed}). {advice}"
            )
        _log.info("The demonstration with seed %d failed and is left out.", seed)
