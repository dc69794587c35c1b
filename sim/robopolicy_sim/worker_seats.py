"""Seats in worker processes: the same as ``Seats``, on several cores."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from robopolicy_datasets.errors import SimulationError
from robopolicy_datasets.spec import Feature
from robopolicy_sim.seats import Begin, Order, SeatReport, Seats
from robopolicy_sim.worker import ParentConnection, Worker, WorkerDiedError

logger = logging.getLogger(__name__)


class WorkerSeats:
    """A row of environments that lie in worker processes, in turn; the workers work at the same time.

    The episodes of a worker that dies are failures with that cause. The next order starts another worker.

    Args:
        environment: as for ``Seats``; picklable.
        count: number of environments.
        seen: as for ``Seats``.
        observation_steps: length of the histories.
        workers: number of processes.

    Raises:
        ConfigError: the environment cannot be handed to another process.
        SimulationError: an environment cannot be built.
    """

    def __init__(
        self, environment: Any, count: int, seen: Sequence[Feature], observation_steps: int, *, workers: int
    ) -> None:
        self._steps = [0] * count  # of the episode in each seat
        self._shares = [range(first, count, workers) for first in range(min(workers, count))]
        self._rest = (list(seen), observation_steps)
        self._environment = environment
        self._workers: dict[int, Worker] = {}  # without those that died
        try:
            for index in range(len(self._shares)):  # they start at the same time
                self._workers[index] = self._start(index)
            answers = [worker.receive() for worker in self._workers.values()]
            self.data_spec, self.dt = answers[0]
        except BaseException:
            self.close()
            raise

    def do(self, orders: Mapping[int, Order]) -> dict[int, SeatReport]:
        """Carries out one order for each named seat.

        Raises:
            SimulationError: an environment raised something else than SimulationError.
        """
        busy = []
        for index, share in enumerate(self._shares):
            mine = {seat: orders[seat] for seat in share if seat in orders}
            if mine:
                busy.append((index, list(mine), self._send(index, mine)))
        reports: dict[int, SeatReport] = {}
        for index, seats, failure in busy:
            reports |= self._receive(index, seats) if failure is None else self._lost(seats, failure)
        for seat, report in reports.items():
            self._steps[seat] = report.steps
        return {seat: reports[seat] for seat in orders}

    def close(self) -> None:
        """Closes the environments and ends the processes."""
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()

    def _start(self, index: int) -> Worker:
        return Worker(serve_seats, self._environment, len(self._shares[index]), *self._rest)

    def _send(self, index: int, orders: Mapping[int, Order]) -> SimulationError | None:
        """Sends orders, to a new worker where the last one died; returns why that cannot start."""
        share = self._shares[index]
        for seat, order in orders.items():
            self._steps[seat] = 0 if isinstance(order, Begin) else self._steps[seat]
        if index not in self._workers:
            worker = self._start(index)
            try:
                worker.receive()
            except SimulationError as failure:
                worker.close()
                return failure
            self._workers[index] = worker
        self._workers[index].send({share.index(seat): order for seat, order in orders.items()})
        return None

    def _receive(self, index: int, seats: Sequence[int]) -> dict[int, SeatReport]:
        share = self._shares[index]
        try:
            return {share[place]: report for place, report in self._workers[index].receive().items()}
        except WorkerDiedError as death:
            self._workers.pop(index).close()
            return self._lost(seats, death)

    def _lost(self, seats: Sequence[int], cause: SimulationError) -> dict[int, SeatReport]:
        logger.warning("%d episodes failed: %s", len(seats), cause)
        return {seat: SeatReport(self._steps[seat], error=str(cause)) for seat in seats}


def serve_seats(parent: ParentConnection, *arguments: Any) -> None:
    """Holds the seats of one worker.

    Args:
        parent: sends orders and is sent reports.
        arguments: of ``Seats``.
    """
    seats = Seats(*arguments)
    try:
        parent.send((seats.data_spec, seats.dt))
        while True:
            parent.send(seats.do(parent.receive()))
    finally:
        seats.close()
