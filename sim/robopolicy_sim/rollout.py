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
from robopolicy_datasets.registry import load_target
from robopolicy_datasets.spec import Spec
from robopolicy_drivers.interfaces import ChunkPolicy, noise_seed

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
    video_seeds: Iterable[int] = (),
    progress: Callable[[EpisodeResult], None] | None = None,
) -> list[EpisodeResult]:
    """Runs one episode a seed and returns their results in the order of the seeds.

    An episode whose environment raises SimulationError, or for which the policy returns numbers that
    are not finite, is a failure with its cause in ``error``; the others go on.

    Args:
        policy: plans for all running environments at once. Each row of a call gets
            ``noise_seed(episode seed, step)`` for its noise.
        environment: a task config (its ``target`` names the environment class), or a function that
            builds one environment.
        seeds: of the initial states, not negative.
        action_steps: actions executed from each chunk; the policy's own number if None.
        batch_size: environments that run at the same time.
        video_seeds: episodes of which every frame is kept.
        progress: called with each result as soon as it is there.

    Raises:
        ConfigError: a setting is out of range.
        SpecError: policy and environment do not fit, or the policy returns chunks of a wrong shape.
        SimulationError: an environment cannot be built, or no episode can begin.
    """
    seeds = [int(seed) for seed in seeds]
    action_steps = policy.action_steps if action_steps is None else action_steps
    _check_settings(seeds, action_steps=action_steps, batch_size=batch_size)
    if not seeds:
        return []
    slots: list[_Slot] = []
    try:
        for _ in range(min(batch_size, len(seeds))):
            slots.append(_Slot(_builder(environment), policy))
        _check_fit(policy, slots[0].environment)
        policy.reset()
        results = _run(policy, slots, seeds, action_steps, frozenset(video_seeds), progress)
    finally:
        for slot in slots:
            slot.close()
    if all(result.error is not None and result.steps == 0 for result in results):
        raise SimulationError(f"No episode could begin. The first failed with: {results[0].error}")
    logger.info(
        "Rolled out %d episodes: %.1f s in the environments, %.1f s in the policy.",
        len(results),
        sum(result.environment_seconds for result in results),
        sum(result.policy_seconds for result in results),
    )
    return results


class _Slot:
    """One environment, and the episode that runs in it.

    Attributes:
        environment: what it steps; None after a failure, until the next episode builds another.
        index: place of the episode among the results.
        seed: of the episode.
        steps: taken so far.
        policy_seconds: the episode's share of the policy calls so far, s.
        result: of the episode, once it has ended.
    """

    def __init__(self, build: Callable[[], Any], policy: ChunkPolicy) -> None:
        self._build = build
        self._keys = [feature.key for feature in policy.spec.observation]
        self.environment: Any = build()
        self._history: deque[Mapping[str, Any]] = deque(maxlen=policy.observation_steps)
        self._frames: list[NDArray[np.uint8]] | None = None
        self._environment_seconds = self.policy_seconds = 0.0
        self.index = self.seed = self.steps = 0
        self.result: EpisodeResult | None = None

    def start(self, index: int, seed: int, *, video: bool) -> None:
        """Begins an episode."""
        self.index, self.seed, self.steps = index, seed, 0
        self.policy_seconds = self._environment_seconds = 0.0
        self._frames = [] if video else None
        self.result = None
        self._guarded(self._reset)

    def advance(self, actions: NDArray[Any]) -> None:
        """Executes actions [K, A] until they or the episode end."""
        self._guarded(lambda: self._execute(actions))

    def observation(self) -> dict[str, NDArray[Any]]:
        """Returns the history as {key: [To, ...]}."""
        return {key: np.stack([observation[key] for observation in self._history]) for key in self._keys}

    def close(self) -> None:
        """Closes the environment."""
        if self.environment is not None:
            self.environment.close()

    def _guarded(self, work: Callable[[], Mapping[str, Any] | None]) -> None:
        """Runs ``work``, which returns the last info of an ended episode; a failed simulation ends it too."""
        begin = time.perf_counter()
        final_info, error = None, None
        try:
            final_info = work()
        except SimulationError as failure:
            final_info, error = {"success": False, "score": 0.0}, str(failure)
            logger.warning("Seed %d failed at step %d: %s", self.seed, self.steps, failure)
            # What is left of the environment cannot be trusted with the next episode.
            self.close()
            self.environment = None
        self._environment_seconds += time.perf_counter() - begin
        if final_info is not None:
            self.result = EpisodeResult(
                seed=self.seed,
                success=bool(final_info["success"]),
                score=float(final_info["score"]),
                steps=self.steps,
                frames=self._frames,
                environment_seconds=self._environment_seconds,
                policy_seconds=self.policy_seconds,
                error=error,
            )

    def _reset(self) -> None:
        if self.environment is None:
            self.environment = self._build()
        observation, _ = self.environment.reset(seed=self.seed)
        # An episode's first observation stands for those before it.
        self._history.extend([observation] * (self._history.maxlen or 1))
        self._record_frame()

    def _execute(self, actions: NDArray[Any]) -> Mapping[str, Any] | None:
        if not np.isfinite(actions).all():
            raise SimulationError(
                f"The policy returned NaN or infinite actions at step {self.steps} of seed {self.seed}; "
                "actions are finite numbers. Check the checkpoint (did the training diverge?)."
            )
        for action in actions:
            observation, _, terminated, truncated, info = self.environment.step(action)
            self.steps += 1
            self._history.append(observation)
            self._record_frame()
            if terminated or truncated:
                return info
        return None

    def _record_frame(self) -> None:
        if self._frames is not None:
            self._frames.append(self.environment.render())


def _run(
    policy: ChunkPolicy,
    slots: Sequence[_Slot],
    seeds: Sequence[int],
    action_steps: int,
    video_seeds: frozenset[int],
    progress: Callable[[EpisodeResult], None] | None,
) -> list[EpisodeResult]:
    """Keeps the slots busy until every seed has its result."""
    results: dict[int, EpisodeResult] = {}
    pending = deque(enumerate(seeds))
    free, running = list(slots), list[_Slot]()
    while pending or running:
        started = free[: len(pending)]
        for slot in started:
            index, seed = pending.popleft()
            slot.start(index, seed, video=seed in video_seeds)
        running += started
        _plan_and_execute(policy, [slot for slot in running if slot.result is None], action_steps)
        for slot in running:
            if slot.result is not None:
                results[slot.index] = slot.result
                if progress is not None:
                    progress(slot.result)
        running = [slot for slot in running if slot.result is None]
        free = [slot for slot in slots if slot not in running]
    return [results[index] for index in range(len(seeds))]


def _plan_and_execute(policy: ChunkPolicy, slots: Sequence[_Slot], action_steps: int) -> None:
    """Calls the policy once for all slots, then lets each execute its chunk."""
    if not slots:
        return
    histories = [slot.observation() for slot in slots]
    observation = {key: np.stack([history[key] for history in histories]) for key in histories[0]}
    noise_seeds = [noise_seed(slot.seed, slot.steps) for slot in slots]
    begin = time.perf_counter()
    chunks = np.asarray(policy.infer(observation, seeds=noise_seeds))
    share = (time.perf_counter() - begin) / len(slots)
    _check_chunks(chunks, policy.spec, count=len(slots), action_steps=action_steps)
    for slot, chunk in zip(slots, chunks, strict=True):
        slot.policy_seconds += share
        slot.advance(chunk[:action_steps])


def _builder(environment: Any) -> Callable[[], Any]:
    """Returns a function that builds one environment, from a task config or such a function."""
    if isinstance(getattr(environment, "target", None), str):
        return lambda: load_target(environment.target)(environment)
    return environment


def _check_settings(seeds: Sequence[int], **counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ConfigError(f"A roll-out was given {name}={value}; give at least 1.")
    if min(seeds, default=0) < 0:
        raise ConfigError(f"A roll-out was given the seed {min(seeds)}; give seeds that are not negative.")


def _check_fit(policy: ChunkPolicy, environment: Any) -> None:
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
