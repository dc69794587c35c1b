"""Seats: environments of this process, each with the episode that runs in it."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import seconds_to_ns
from robopolicy_datasets.errors import SimulationError
from robopolicy_datasets.history import Past, offering
from robopolicy_datasets.registry import load_target
from robopolicy_datasets.spec import Feature, Spec

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Begin:
    """The order to begin an episode; the other order is an array of actions [K, A] to execute.

    Attributes:
        seed: of the initial state.
        video: whether every frame is kept.
    """

    seed: int
    video: bool = False


Order = Begin | NDArray[Any]


@dataclass(frozen=True)
class SeatReport:
    """How the episode in a seat stands after an order.

    Attributes:
        steps: taken so far.
        history: the last observations, {key: [To, ...]}; None once the episode has ended.
        success: whether the task was done at the end.
        score: the task's score at the end, in [0, 1].
        frames: video frames [height, width, 3]; None where no video was asked for.
        environment_seconds: time spent in this environment so far, s.
        error: why the simulation failed; None if it did not.
    """

    steps: int
    history: dict[str, NDArray[Any]] | None = None
    success: bool = False
    score: float = 0.0
    frames: list[NDArray[np.uint8]] | None = None
    environment_seconds: float = 0.0
    error: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the episode is over."""
        return self.history is None


class Seats:
    """A row of environments that do what they are told, one after the other.

    Args:
        environment: a task config (its ``target`` names the environment class), or a function that builds one
            environment.
        count: number of environments.
        seen: what is reported of the observations; histories are made of the environment's streams.
        observation_steps: length To of the histories.

    Raises:
        SimulationError: an environment cannot be built.
    """

    def __init__(self, environment: Any, count: int, seen: Sequence[Feature], observation_steps: int) -> None:
        self._seats: list[_Seat] = []
        try:
            for _ in range(count):
                self._seats.append(_Seat(_builder(environment), seen, observation_steps))
        except BaseException:
            self.close()
            raise
        first = self._seats[0].environment
        streams = getattr(first, "streams", ())
        self.data_spec, self.dt = offering(first.data_spec, streams, Spec(tuple(seen), ())), float(first.dt)

    def do(self, orders: Mapping[int, Order]) -> dict[int, SeatReport]:
        """Carries out one order for each named seat; a failed simulation is a report, too."""
        return {seat: self._seats[seat].do(order) for seat, order in orders.items()}

    def close(self) -> None:
        """Closes the environments."""
        for seat in self._seats:
            seat.close()


class _Seat:
    """One environment, and the episode that runs in it; after a failure, the next one gets a new one."""

    def __init__(self, build: Callable[[], Any], seen: Sequence[Feature], observation_steps: int) -> None:
        self._build = build
        self._keys = [feature.key for feature in seen if not feature.history]
        self._pasts = {feature.key: Past(feature) for feature in seen if feature.history}
        self.environment: Any = self._listening()
        self._history: deque[Mapping[str, Any]] = deque(maxlen=observation_steps)
        self._frames: list[NDArray[np.uint8]] | None = None
        self._seconds = 0.0
        self._seed = self._steps = 0

    def do(self, order: Order) -> SeatReport:
        """Begins an episode, or executes actions until they or the episode end."""
        if isinstance(order, Begin):
            self._seed, self._steps, self._seconds = order.seed, 0, 0.0
            self._frames = [] if order.video else None
        started = time.perf_counter()
        final_info: Mapping[str, Any] | None = None
        error = None
        try:
            if isinstance(order, Begin):
                self._reset()
            else:
                final_info = self._execute(order)
        except SimulationError as failure:
            final_info, error = {"success": False, "score": 0.0}, str(failure)
            logger.warning("Seed %d failed at step %d: %s", self._seed, self._steps, failure)
            # What is left of the environment cannot be trusted with the next episode.
            self.close()
        self._seconds += time.perf_counter() - started
        if final_info is None:
            return SeatReport(self._steps, self._stacked(), environment_seconds=self._seconds)
        return SeatReport(
            self._steps,
            success=bool(final_info["success"]),
            score=float(final_info["score"]),
            frames=self._frames,
            environment_seconds=self._seconds,
            error=error,
        )

    def close(self) -> None:
        """Closes the environment."""
        if self.environment is not None:
            environment, self.environment = self.environment, None
            environment.close()

    def _reset(self) -> None:
        if self.environment is None:
            self.environment = self._listening()
        observation, _ = self.environment.reset(seed=self._seed)
        for past in self._pasts.values():
            past.forget()
        observation = self._seen(observation)
        # An episode's first observation stands for those before it.
        self._history.extend([observation] * (self._history.maxlen or 1))
        self._record_frame()

    def _execute(self, actions: NDArray[Any]) -> Mapping[str, Any] | None:
        """Returns the last info of an episode that ends within the actions."""
        if not np.isfinite(actions).all():
            raise SimulationError(
                f"The policy returned NaN or infinite actions at step {self._steps} of seed {self._seed}; "
                "actions are finite numbers. Check the checkpoint (did the training diverge?)."
            )
        for action in actions:
            observation, _, terminated, truncated, info = self.environment.step(action)
            self._steps += 1
            self._history.append(self._seen(observation))
            self._record_frame()
            if terminated or truncated:
                return info
        return None

    def _stacked(self) -> dict[str, NDArray[Any]]:
        keys = [*self._keys, *self._pasts]
        return {key: np.stack([observation[key] for observation in self._history]) for key in keys}

    def _listening(self) -> Any:
        """Builds an environment that keeps the samples which histories are made of."""
        environment = self._build()
        if self._pasts and hasattr(environment, "listen"):
            environment.listen(self._pasts)
        return environment

    def _seen(self, observation: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns an observation with the histories at its time."""
        if not self._pasts:
            return observation
        now_ns = seconds_to_ns(self._steps * self.environment.dt)
        for key, stream in self.environment.heard().items():
            if key in self._pasts:
                self._pasts[key].add(stream.value, stream.time_ns)
        return {**observation, **{key: past.at(now_ns) for key, past in self._pasts.items()}}

    def _record_frame(self) -> None:
        if self._frames is not None:
            self._frames.append(self.environment.render())


def _builder(environment: Any) -> Callable[[], Any]:
    """Returns a function that builds one environment, from a task config or such a function."""
    if isinstance(getattr(environment, "target", None), str):
        return lambda: load_target(environment.target)(environment)
    return environment
