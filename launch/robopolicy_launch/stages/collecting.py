"""Collecting: demonstrations by a teleoperator, written into a store as they come."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robopolicy_datasets.errors import ConfigError, StoreError
from robopolicy_datasets.registry import tasks
from robopolicy_drivers.teleop.configs import SteeringConfig
from robopolicy_launch import console
from robopolicy_launch.settings import registered_name

if TYPE_CHECKING:
    from robopolicy_sim.successes import Episode


def collect(
    teleop: Any,
    task: Any,
    path: Path,
    *,
    episodes: int,
    seed: int,
    codecs: Mapping[str, str] | None = None,
    workers: int = 1,
) -> dict[str, Any]:
    """Records successful demonstrations into a new store.

    Args:
        teleop: config of a registered teleoperator, whose component yields ``(data, EpisodeInfo)``, and
            ``streams`` by key where it has some, for the seeds that it is given.
        task: config of a registered task.
        path: the new store.
        episodes: number of demonstrations.
        seed: of the first demonstration; failed ones take a seed too.
        codecs: of the store, see ``DemoStore.create``.
        workers: processes that demonstrate; the store is the same.

    Returns:
        The figures: episodes, steps, seconds, megabytes.

    Raises:
        ConfigError: the teleoperator does not know the task, or a number is out of range.
        StoreError: the store exists or cannot be written.
    """
    from robopolicy_datasets.store.demo_store import DemoStore
    from robopolicy_datasets.store.summary import summarise

    if episodes < 1:
        raise ConfigError(f"episodes is {episodes}; give at least 1.")
    if seed < 0:
        raise ConfigError(f"The seed of the first demonstration is {seed}; give at least 0.")
    task_name, teleop_name = registered_name("task", task), registered_name("teleop", teleop)
    known = _known_tasks(type(teleop), task_name)
    if task_name not in known:
        raise ConfigError(
            f"teleop={teleop_name} does not know task={task_name}; it knows: {', '.join(known)}."
        )
    if path.exists():
        raise StoreError(f"{path} exists already; give another output=..., or remove it.")
    started = time.monotonic()
    environment = tasks.build(task_name, task)
    spec, rate_hz = environment.data_spec, 1.0 / environment.dt
    offered = getattr(environment, "streams", ())
    environment.close()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"The folder '{path.parent}' of the store cannot be created ({os.strerror(error.errno or 0)}). "
            "Give an output=... in a folder that you may write to."
        ) from error
    store: DemoStore | None = None
    try:
        with console.Progress("Collecting demonstrations", episodes) as progress:
            recordings = _demonstrations(teleop, task, seed, workers)
            for done, (data, info, *brought) in enumerate(itertools.islice(recordings, episodes), start=1):
                samples = brought[0] if brought else {}
                if store is None:
                    store = DemoStore.create(
                        path,
                        spec,
                        rate_hz=rate_hz,
                        metadata={"task": task_name, "teleop": teleop_name},
                        codecs=codecs,
                        streams=[stream for stream in offered if stream.key in samples],
                    )
                store.append_episode(data, info, streams=samples)
                progress(done, episodes)
    except KeyboardInterrupt as interrupt:
        if store is not None:
            kept = len(DemoStore.open(path))  # of the disk: the last one may not be counted yet
            interrupt.add_note(f"{kept} of {episodes} demonstrations are in {path}, which can be used.")
        raise
    if store is None:
        raise StoreError(
            f"teleop={teleop_name} made no demonstration of task={task_name}; nothing was stored."
        )
    return {
        "episodes": len(store),
        "steps": store.num_steps,
        "seconds": time.monotonic() - started,
        "megabytes": summarise(store).disk_bytes / 1e6,
    }


def _demonstrations(teleop: Any, task: Any, seed: int, workers: int) -> Iterator[Episode]:
    """Yields the demonstrations of a person in a window, or of a teleoperator that needs none."""
    if isinstance(teleop, SteeringConfig):
        from robopolicy_sim.teleop.desk import collect as by_a_person

        if workers > 1:
            raise ConfigError("One window is for one person; give workers=1.")
        return by_a_person(teleop, task, itertools.count(seed))
    if hasattr(teleop, "device"):
        raise ConfigError(
            f"teleop={registered_name('teleop', teleop)} drives robots through their drivers; give "
            "robot=sim, or the robot that you have."
        )
    from robopolicy_sim.demonstrating import demonstrations

    return demonstrations(teleop, task, seed, workers=workers)


def _known_tasks(teleop_class: type, task_name: str) -> Sequence[str]:
    """Returns the tasks that a teleoperator knows: those it lists, or whose configs name what it needs."""
    needs = getattr(teleop_class, "needs", None)
    if needs:
        return [name for name in tasks.names() if hasattr(tasks.config_class(name), needs)]
    return getattr(teleop_class, "tasks", (task_name,))
