"""How many environment steps a second roll-outs make with so many workers."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.registry import load_target
from robopolicy_sim.seats import Begin, Order, Seats
from robopolicy_sim.worker_seats import WorkerSeats

ACTION_STEPS = 8
OBSERVATION_STEPS = 2


class RolloutSpeed:
    """Steps a task's environments as a roll-out does, with random actions in place of a policy.

    A context manager, so that several of them can be measured in turn on a machine that others use too.

    Args:
        task: config of the task.
        workers: processes that step the environments; 1 steps them here.
        environments: that take turns.

    Raises:
        ConfigError: a number is below 1.
    """

    def __init__(self, task: Any, *, workers: int, environments: int = 8) -> None:
        if min(workers, environments) < 1:
            raise ConfigError(f"There are {workers} workers, {environments} environments; give at least 1.")
        first = load_target(task.target)(task)
        first.action_space.seed(0)
        self._actions = np.stack([first.action_space.sample() for _ in range(ACTION_STEPS)])
        seen = first.data_spec.observation
        first.close()
        row = (task, environments, seen, OBSERVATION_STEPS)
        self._seats = Seats(*row) if workers == 1 else WorkerSeats(*row, workers=workers)
        self._steps = dict.fromkeys(range(environments), 0)
        self._begin(list(self._steps))

    def measure(self, rounds: int = 4) -> float:
        """Steps every environment ``8 * rounds`` times, but for what is over before, which begins again.

        Returns:
            Steps per second of all environments together.
        """
        started = time.perf_counter()
        steps = sum(self._round() for _ in range(rounds))
        return steps / (time.perf_counter() - started)

    def __enter__(self) -> RolloutSpeed:
        return self

    def __exit__(self, *_: object) -> None:
        self._seats.close()

    def _round(self) -> int:
        """Lets every environment execute the actions once; returns the steps that were made."""
        orders: dict[int, Order] = dict.fromkeys(self._steps, self._actions)
        reports = self._seats.do(orders)
        made = sum(report.steps - self._steps[seat] for seat, report in reports.items())
        self._steps = {seat: report.steps for seat, report in reports.items()}
        self._begin([seat for seat, report in reports.items() if report.ended])
        return made

    def _begin(self, seats: list[int]) -> None:
        self._seats.do({seat: Begin(seed=seat) for seat in seats})
        self._steps.update(dict.fromkeys(seats, 0))
