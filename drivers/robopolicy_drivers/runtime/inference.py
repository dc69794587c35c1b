"""Runs a policy in a thread of its own, so that the control steps go on while it thinks."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, ns_to_seconds
from robopolicy_datasets.errors import RobopolicyError
from robopolicy_drivers.interfaces import Chunk, ChunkPolicy, Observation, Prefix, TakesPrefix
from robopolicy_drivers.runtime.scheduler import ChunkScheduler

_RECENT = 5
_CLOSE_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Request:
    """What one inference is given.

    Attributes:
        step: absolute control step of the newest observation.
        time_ns: its time [ns, monotonic].
        observation: per key ``[1, To, ...]``.
        seeds: for the policy.
        prefix: what the chunk should continue, for policies that take it.
        restart: whether the policy forgets the past first.
    """

    step: int
    time_ns: int
    observation: Observation
    seeds: Sequence[int] | None = None
    prefix: Prefix | None = None
    restart: bool = False


class InferenceThread:
    """Takes one observation at a time, samples a chunk and gives it to the scheduler.

    Args:
        policy: called from this thread only, until ``close``.
        scheduler: receives the chunks.

    Attributes:
        latencies_s: duration of each inference [s].
        newest: the newest chunk that the scheduler accepted.
    """

    def __init__(self, policy: ChunkPolicy, scheduler: ChunkScheduler) -> None:
        self.policy = policy
        self.scheduler = scheduler
        self.latencies_s: list[float] = []
        self.newest: Chunk | None = None
        self._condition = threading.Condition()
        self._request: Request | None = None
        self._busy = False
        self._abandoned = False
        self._error: Exception | None = None
        self._closing = False
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._thread = threading.Thread(target=self._run, name="policy", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether an inference is under way."""
        return self._busy

    @property
    def expected_latency_s(self) -> float:
        """Median duration of the last inferences [s]; 0 before the first."""
        return float(np.median(self._recent)) if self._recent else 0.0

    @property
    def longest_latency_s(self) -> float:
        """Longest duration of the last inferences [s]; 0 before the first."""
        return max(self._recent, default=0.0)

    def request(self, request: Request) -> None:
        """Starts an inference; none may be under way."""
        with self._condition:
            self._request = request
            self._busy = True
            self._abandoned = False
            self._condition.notify_all()

    def abandon(self) -> None:
        """Sees to it that the chunk of an inference under way is thrown away."""
        with self._condition:
            self._abandoned = True

    def wait(self, until_ns: int) -> None:
        """Waits until the inference is done, or the time ``until_ns`` [monotonic] has come."""
        with self._condition:
            self._condition.wait_for(lambda: not self._busy, max(0.0, ns_to_seconds(until_ns - now_ns())))

    def check(self) -> None:
        """Raises the policy's error, if it had one."""
        error = self._error
        if isinstance(error, RobopolicyError):
            raise error
        if error is not None:
            raise RobopolicyError(
                f"The policy failed ({type(error).__name__}: {error}); the robot was stopped."
            ) from error

    def close(self) -> None:
        """Ends the thread; waits for an inference that is under way."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        self._thread.join(_CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            raise RobopolicyError(
                f"The policy has not returned from inference for more than {_CLOSE_TIMEOUT_S:g} s; "
                "do not use it again in this process."
            )

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._closing or self._request is not None)
                if self._closing:
                    return
                request, self._request = self._request, None
            if request is not None:
                self._serve(request)

    def _serve(self, request: Request) -> None:
        begin = now_ns()
        try:
            chunk = Chunk(self._infer(request), request.step, self.policy.dt, request.time_ns)
            with self._condition:
                if not self._abandoned:
                    self.scheduler.add(chunk)
                    self.newest = chunk
        except (
            Exception
        ) as error:  # whatever a policy raises must reach the control loop, which stops the robot
            self._error = error
        latency_s = ns_to_seconds(now_ns() - begin)
        with self._condition:
            self.latencies_s.append(latency_s)
            self._recent.append(latency_s)
            self._busy = False
            self._condition.notify_all()

    def _infer(self, request: Request) -> NDArray[np.floating]:
        policy = self.policy
        if request.restart:
            policy.reset()
        if request.prefix is not None and isinstance(policy, TakesPrefix):
            chunks = policy.infer(request.observation, seeds=request.seeds, prefix=request.prefix)
        else:
            chunks = policy.infer(request.observation, seeds=request.seeds)
        return np.asarray(chunks)[0]
