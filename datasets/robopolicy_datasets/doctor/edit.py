"""Edits of one store that keep its Spec: split, trim, relabel. Each writes new stores."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from robopolicy_datasets.doctor.copying import EpisodeCopy, copy_episodes
from robopolicy_datasets.doctor.idle import moving_steps
from robopolicy_datasets.errors import ConfigError, StoreError
from robopolicy_datasets.store.demo_store import DemoStore

Progress = Callable[[int, int], None]


def copy_store(
    store: DemoStore, plan: Sequence[EpisodeCopy], target: str | Path, done: str, progress: Progress | None
) -> DemoStore:
    """Writes a new store of ``plan`` with the Spec, rate and metadata of ``store``.

    Raises:
        StoreError: as for ``copy_episodes``.
    """
    return copy_episodes(
        plan,
        target,
        store.spec,
        rate_hz=store.rate_hz,
        metadata=store.attributes,
        done=done,
        streams=store.streams,
        progress=progress,
    )


def split_store(
    store: DemoStore,
    target: str | Path,
    held_out: str | Path,
    episodes: Collection[int],
    progress: Progress | None = None,
) -> tuple[DemoStore, DemoStore]:
    """Writes the chosen episodes into one new store and the others into another.

    Args:
        store: the source.
        target: the new store of the others; must not exist.
        held_out: the new store of the chosen ones; must not exist.
        episodes: the chosen ones.
        progress: called with (episodes done, episodes in all).

    Returns:
        Both new stores, open for reading: of the others, and of the chosen ones.

    Raises:
        ConfigError: one of the two would be empty.
        StoreError: as for ``copy_episodes``; the first store may then be there already.
    """
    others = [number for number in range(len(store)) if number not in episodes]
    chosen = [number for number in range(len(store)) if number in episodes]
    if not chosen or not others:
        raise ConfigError(
            f"The split puts {len(others)} episodes into {target} and {len(chosen)} into {held_out}; "
            "each needs at least one."
        )
    if Path(held_out).exists():  # told before the first store is written
        raise StoreError(f"{held_out} exists already. Choose another target or remove it.")
    made = []
    before = 0
    for path, numbers in ((target, others), (held_out, chosen)):
        told = None if progress is None else _shifted(progress, before, len(store))
        plan = [EpisodeCopy(store, number) for number in numbers]
        made.append(copy_store(store, plan, path, "split", told))
        before += len(numbers)
    return made[0], made[1]


def trim_store(
    store: DemoStore,
    target: str | Path,
    *,
    keep: Mapping[int, tuple[int, int]] | None = None,
    still: float = 0.01,
    margin: int = 2,
    progress: Progress | None = None,
) -> DemoStore:
    """Writes a new store of shortened episodes.

    Args:
        store: the source.
        target: the new store; must not exist.
        keep: (first, last) step to keep of single episodes, both included; other episodes are kept whole.
            Without it the idle steps at both ends of every episode are dropped.
        still: how far an idle value may be from where it begins or ends, as a share of its usual range.
        margin: idle steps to keep at each end.
        progress: called with (episodes done, episodes in all).

    Returns:
        The new store, open for reading; episodes that are idle throughout are not in it.

    Raises:
        ConfigError: ``keep`` names steps or episodes that are not there.
        StoreError: as for ``copy_episodes``.
    """
    lengths = np.diff(store.episode_ends, prepend=0).tolist()
    if keep is None:
        ranges = moving_steps(store, still=still, margin=margin)
    else:
        for episode, (first, last) in keep.items():
            if episode >= len(store) or not 0 <= first <= last < lengths[episode]:
                there = f"{lengths[episode]} steps" if episode < len(store) else f"{len(store)} episodes"
                raise ConfigError(
                    f"keep={episode}:{first}-{last} is not possible: there are {there}, counted from 0."
                )
        ranges = {episode: keep.get(episode, (0, length - 1)) for episode, length in enumerate(lengths)}
    plan = [EpisodeCopy(store, number, np.arange(low, high + 1)) for number, (low, high) in ranges.items()]
    return copy_store(store, plan, target, "trimmed", progress)


def relabel_store(
    store: DemoStore,
    target: str | Path,
    episodes: Collection[int],
    *,
    task: str | None = None,
    success: bool | None = None,
    operator: str | None = None,
    progress: Progress | None = None,
) -> DemoStore:
    """Writes a new store in which chosen episodes have another task, success or operator.

    Args:
        store: the source.
        target: the new store; must not exist.
        episodes: the episodes to relabel; the others keep theirs.
        task: what was to be done; ``None`` to leave it.
        success: whether it was done; ``None`` to leave it.
        operator: who moved the robot; ``None`` to leave it.
        progress: called with (episodes done, episodes in all).

    Returns:
        The new store, open for reading.

    Raises:
        ConfigError: nothing is to be changed.
        StoreError: as for ``copy_episodes``.
    """
    if (task is None and success is None and operator is None) or not episodes:
        raise ConfigError(
            "Nothing is to be relabelled; give episodes and at least one of task, success and operator."
        )
    plan = []
    for number in range(len(store)):
        info = store.episode_info(number)
        if number in episodes:
            info = replace(
                info,
                task=info.task if task is None else task,
                success=info.success if success is None else success,
                operator=info.operator if operator is None else operator,
            )
        plan.append(EpisodeCopy(store, number, info=info))
    return copy_store(store, plan, target, "relabelled", progress)


def _shifted(progress: Progress, before: int, total: int) -> Progress:
    return lambda done, _: progress(before + done, total)
