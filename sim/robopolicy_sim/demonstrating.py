"""Demonstrations by teleoperators that need no person, on one or several cores."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from multiprocessing.connection import wait
from typing import Any

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.registry import load_target
from robopolicy_sim.successes import Episode
from robopolicy_sim.worker import ParentConnection, Worker

AHEAD = 4  # demonstrations a worker may be ahead of the one that is waited for


def demonstrations(teleop: Any, task: Any, first_seed: int, *, workers: int = 1) -> Iterator[Episode]:
    """Yields one demonstration after another, in the order of their seeds, without end.

    Which they are does not depend on the number of workers, as long as the teleoperator makes at most one of
    each seed, and each from its seed alone.

    Args:
        teleop: config of a teleoperator: its ``target`` is called with (teleop, task, seeds) and yields
            successful episodes.
        task: config of the task.
        first_seed: the seeds are consecutive from here.
        workers: processes that demonstrate; 1: this one.

    Raises:
        ConfigError: the number of workers is below 1.
        SimulationError: a worker died.
        RobopolicyError: what the teleoperator raises.
    """
    if workers < 1:
        raise ConfigError(f"workers is {workers}; give at least 1.")
    if workers == 1:
        return load_target(teleop.target)(teleop, task, itertools.count(first_seed))
    return _by_workers(teleop, task, first_seed, workers)


def _by_workers(teleop: Any, task: Any, first_seed: int, count: int) -> Iterator[Episode]:
    with contextlib.ExitStack() as stack:
        idle: list[Worker] = []
        for _ in range(count):
            idle.append(Worker(serve_demonstrations, teleop, task))
            stack.callback(idle[-1].close)
        busy: dict[Any, tuple[Worker, int]] = {}  # by connection
        done: dict[int, Episode | None] = {}
        upcoming = itertools.count(first_seed)
        for wanted in itertools.count(first_seed):
            while wanted not in done:
                while idle and len(done) < AHEAD * count:
                    worker, seed = idle.pop(), next(upcoming)
                    worker.send(seed)
                    busy[worker.connection] = worker, seed
                for connection in wait(list(busy)):
                    worker, seed = busy.pop(connection)
                    done[seed] = worker.receive()
                    idle.append(worker)
            demonstration = done.pop(wanted)
            if demonstration is not None:
                yield demonstration


def serve_demonstrations(parent: ParentConnection, teleop: Any, task: Any) -> None:
    """Demonstrates the seeds that the parent sends; answers None where one is left out.

    Args:
        parent: sends seeds and is sent demonstrations.
        teleop: config of the teleoperator.
        task: config of the task.
    """
    unanswered = False

    def seeds() -> Iterator[int]:
        nonlocal unanswered
        while True:
            if unanswered:  # the teleoperator asks for another seed and has made nothing of the last
                parent.send(None)
            seed = parent.receive()
            unanswered = True
            yield seed

    for demonstration in load_target(teleop.target)(teleop, task, seeds()):
        parent.send(demonstration)
        unanswered = False
