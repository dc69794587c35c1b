"""Closed-loop roll-outs in batches: one policy call for all running environments.

Environments advance chunk by chunk: the policy plans for all of them in one call, each executes its
chunk or ends within it, and the next seed takes the place of an episode that has ended. An episode
depends on its seed alone, not on the batch (as far as the rows of a policy call do not depend on each
other: the last bits of a matrix product can change with its size).
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError, SimulationError, SpecError
from robopolicy_datasets.spec import Spec
from robopolicy_drivers.interfaces import ChunkPolicy, noise_seed
from robopolicy_sim.seats import Begin, Order, SeatReport, Seats
from robopolicy_sim.worker_seats import WorkerSeats

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpisodeResult:
    """One episode.

    Attributes:
        seed: of the initial state.
        success: whether the task was done when the episode ended.
        score: the task's score in [0, 1]; 0 if the episode failed with an error.
        steps: environment steps taken.
        frames: video frames [height, width, 3] from reset to end; None where no video was asked for.
        environment_seconds: time spent in this environment, s.
        policy_seconds: this episode's share of the policy calls, s.
        error: why the simulation failed; None if it did not.
    """

    seed: int
    success: bool
    score: float
    steps: int
    frames: list[NDArray[np.uint8]] | None = None
    environment_seconds: float = 0.0
    policy_seconds: float = 0.0
    error: str | None = None

    @property
    def seconds(self) -> float:
        """Environment and policy time together, s."""
        return self.environment_seconds + self.policy_seconds


def rollout(
    policy: ChunkPolicy,
    environment: Any,
    seeds: Iterable[int],
    *,
    action_steps: int | None = None,
    batch_size: int = 50,
    workers: int = 1,
    video_seeds: Iterable[int] = (),
    progress: Callable[[EpisodeResult], None] | None = None,
) -> list[EpisodeResult]:
    """Runs one episode a seed and returns their results in the order of the seeds.

    An episode whose environment raises SimulationError, whose worker dies, or for which the policy returns
    numbers that are not finite, is a failure with its cause in ``error``; the others go on.

    Args:
        policy: plans for all running environments at once. Each row of a call gets
            ``noise_seed(episode seed, step)`` for its noise.
        environment: a task config (its ``target`` names the environment class), or a function that
            builds one environment; for workers, one that can be imported from a module.
        seeds: of the initial states, not negative.
        action_steps: actions executed from each chunk; the policy's own number if None.
        batch_size: environments that run at the same time.
        workers: processes that step the environments; 1 steps them here. The results are the same.
        video_seeds: episodes of which every frame is kept.
        progress: called with each result as soon as it is there.

    Raises:
        ConfigError: a setting is out of range.
        SpecError: policy and environment do not fit, or the policy returns chunks of a wrong shape.
        SimulationError: an environment cannot be built, or no episode can begin.
    """
    seeds = [int(seed) for seed in seeds]
    action_steps = policy.action_steps if action_steps is None else action_steps
    _check_settings(seeds, action_steps=action_steps, batch_size=batch_size, workers=workers)
    if not seeds:
        return []
    count = min(batch_size, len(seeds))
    seats = _seats(environment, count, policy, workers)
    try:
        _check_fit(policy, seats)
        policy.reset()
        results = _run(policy, seats, count, seeds, action_steps, frozenset(video_seeds), progress)
    finally:
        seats.close()
    if all(result.error is not None and result.steps == 0 for result in results):
        raise SimulationError(f"No episode could begin. The first failed with: {results[0].error}")
    logger.info(
        "Rolled out %d episodes: %.1f s in the environments, %.1f s in the policy.",
        len(results),
        sum(result.environment_seconds for result in results),
        sum(result.policy_seconds for result in results),
    )
    return results


@dataclass
class _Episode:
    """A running episode."""

    index: int  # among the results
    seed: int
    report: SeatReport
    policy_seconds: float = 0.0

    def result(self) -> EpisodeResult:
        report = self.report
        return EpisodeResult(
            seed=self.seed,
            success=report.success,
            score=report.score,
            steps=report.steps,
            frames=report.frames,
            environment_seconds=report.environment_seconds,
            policy_seconds=self.policy_seconds,
            error=report.error,
        )


def _run(
    policy: ChunkPolicy,
    seats: Seats | WorkerSeats,
    count: int,
    seeds: Sequence[int],
    action_steps: int,
    video_seeds: frozenset[int],
    progress: Callable[[EpisodeResult], None] | None,
) -> list[EpisodeResult]:
    """Keeps the seats busy until every seed has its result."""
    results: dict[int, EpisodeResult] = {}
    pending = deque(enumerate(seeds))
    running: dict[int, _Episode] = {}  # by seat

    def carry_out(orders: Mapping[int, Order]) -> None:
        for seat, report in seats.do(orders).items():
            running[seat].report = report

    while pending or running:
        free = [seat for seat in range(count) if seat not in running][: len(pending)]
        for seat in free:
            running[seat] = _Episode(*pending.popleft(), SeatReport(0))
        carry_out({s: Begin(running[s].seed, running[s].seed in video_seeds) for s in free})
        going_on = {seat: episode for seat, episode in running.items() if not episode.report.ended}
        if going_on:
            chunks = _plan(policy, list(going_on.values()), action_steps)
            carry_out(dict(zip(going_on, chunks, strict=True)))
        for seat, episode in list(running.items()):
            if episode.report.ended:
                result = results[episode.index] = episode.result()
                del running[seat]
                if progress is not None:
                    progress(result)
    return [results[index] for index in range(len(seeds))]


def _plan(policy: ChunkPolicy, episodes: Sequence[_Episode], action_steps: int) -> NDArray[Any]:
    """Calls the policy once for all episodes; returns the actions to execute ``[N, action_steps, A]``."""
    histories = [episode.report.history or {} for episode in episodes]
    observation = {key: np.stack([history[key] for history in histories]) for key in histories[0]}
    noise_seeds = [noise_seed(episode.seed, episode.report.steps) for episode in episodes]
    begin = time.perf_counter()
    chunks = np.asarray(policy.infer(observation, seeds=noise_seeds))
    share = (time.perf_counter() - begin) / len(episodes)
    _check_chunks(chunks, policy.spec, count=len(episodes), action_steps=action_steps)
    for episode in episodes:
        episode.policy_seconds += share
    return chunks[:, :action_steps]


def _seats(environment: Any, count: int, policy: ChunkPolicy, workers: int) -> Seats | WorkerSeats:
    seen = policy.spec.observation
    if workers == 1:
        return Seats(environment, count, seen, policy.observation_steps)
    return WorkerSeats(environment, count, seen, policy.observation_steps, workers=workers)


def _check_settings(seeds: Sequence[int], **counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ConfigError(f"A roll-out was given {name}={value}; give at least 1.")
    if min(seeds, default=0) < 0:
        raise ConfigError(f"A roll-out was given the seed {min(seeds)}; give seeds that are not negative.")


def _check_fit(policy: ChunkPolicy, environment: Seats | WorkerSeats) -> None:
    policy.spec.require(environment.data_spec, needs="policy", provides="environment")
    if not np.isclose(policy.dt, environment.dt):
        raise SpecError(
            f"The policy plans actions {policy.dt} s apart, but the environment steps {environment.dt} s. "
            "Use an environment of the policy's rate, or train on data of the environment's rate."
        )


def _check_chunks(chunks: NDArray[Any], spec: Spec, *, count: int, action_steps: int) -> None:
    size = sum(feature.size for feature in spec.action)
    if chunks.ndim != 3 or chunks.shape[::2] != (count, size) or chunks.shape[1] < action_steps:
        raise SpecError(
            f"The policy returned chunks of shape {list(chunks.shape)}; {count} environments need [{count}, "
            f"{action_steps} or more, {size}]. Execute fewer action_steps, or mend the policy."
        )
