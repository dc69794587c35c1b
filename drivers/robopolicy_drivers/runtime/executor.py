"""Runs one episode of a chunk policy on a robot, in real time.

Timing. Control step k begins at ``t_k = t_0 + k * dt``. At ``t_k`` the executor observes, and an inference
that starts there yields a chunk whose row 0 belongs to step k itself, as in training and simulation. Row r is
sent at the beginning of step k + r, to be reached at "observation + (r + 1) dt", which also makes up for the
age of the image. So that row 0 is not lost to a short inference, the executor waits for it, at most half a
step (``START_DELAY_SHARE``); the robot then covers the step's way in what is left of the step.
An inference that takes longer costs its first rows, dropped by count; meanwhile the rows of the
chunk before are played, up to ``PATIENCE_S`` beyond the usual, and then the robot holds its last
target. The first chunk is sampled before the clock starts, because its early rows must not be
lost while the robot still stands.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, ns_to_seconds, seconds_to_ns
from robopolicy_datasets.errors import ConfigError, DeviceError, RobopolicyError
from robopolicy_datasets.spec import Spec
from robopolicy_drivers.interfaces import (
    Camera,
    Chunk,
    ChunkPolicy,
    Observation,
    RecallsStates,
    ReportsLateness,
    Robot,
    noise_seed,
)
from robopolicy_drivers.realtime.loop import DeadlineLoop
from robopolicy_drivers.realtime.scheduling import set_timer_slack
from robopolicy_drivers.realtime.statistics import LatenessSummary
from robopolicy_drivers.runtime.inference import InferenceThread
from robopolicy_drivers.runtime.scheduler import ChunkScheduler, Status

START_DELAY_SHARE = 0.5
PATIENCE_S = 0.5
MAX_OBSERVATION_AGE_S = 0.5
FIRST_CHUNK_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class StepRecord:
    """What happened at one control step.

    Attributes:
        step: absolute control step.
        time_ns: time of the observation [ns, monotonic].
        observation: newest observation by key, of the robot and all cameras.
        action: what was really sent to the robot ``[A]``; None when nothing was.
        status: where the action came from.
    """

    step: int
    time_ns: int
    observation: dict[str, NDArray]
    action: NDArray | None
    status: Status


@dataclass(frozen=True)
class EpisodeReport:
    """How an episode went.

    Attributes:
        success: whether ``stop_when`` ended it.
        duration_s: from the first step to the end [s].
        steps: control steps that were executed.
        actions: steps that played a row planned for them.
        holds: steps that repeated the last action, because no chunk covered them.
        waiting: steps before the first action.
        skipped: control steps that passed while the executor was late.
        dropped_rows: rows of chunks that came too late for their step.
        inference_s: duration of each inference since the clock started ``[K]`` [s].
        executor: lateness of the control steps.
        robot: lateness of the robot's own loop during the episode, where it reports it.
    """

    success: bool
    duration_s: float
    steps: int
    actions: int
    holds: int
    waiting: int
    skipped: int
    dropped_rows: int
    inference_s: NDArray[np.float64]
    executor: LatenessSummary
    robot: LatenessSummary | None


def run_episode(
    robot: Robot,
    cameras: Sequence[Camera],
    policy: ChunkPolicy,
    *,
    duration_s: float,
    seed: int | None = None,
    stop_when: Callable[[], bool] | None = None,
    recorder: Callable[[StepRecord], None] | None = None,
) -> EpisodeReport:
    """Runs a policy until ``stop_when`` says so or the time is over; then the robot holds.

    Args:
        robot: connected.
        cameras: connected.
        policy: called from another thread, one call at a time.
        duration_s: longest duration [s].
        seed: of the policy's noise, from 0; None for fresh noise.
        stop_when: asked at every control step whether the task is done.
        recorder: called at every control step, in the control thread: it must be quick.

    Raises:
        SpecError: robot and cameras do not offer what the policy needs.
        RobopolicyError: the policy or a device failed; the robot was stopped, and the stop is latched.
    """
    if not duration_s > 0:
        raise ConfigError(f"duration_s is {duration_s}; give a duration above 0 s.")
    offered = [
        *robot.spec.observation,
        *(feature for camera in cameras for feature in camera.spec.observation),
    ]
    policy.spec.require(
        Spec(tuple(offered), robot.spec.action), needs="policy", provides="robot with its cameras"
    )
    episode = _Episode(robot, cameras, policy, seed, recorder)
    try:
        report = episode.run(duration_s, stop_when)
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}"
        for end in (lambda: robot.stop(reason), episode.inference.close):
            with contextlib.suppress(RobopolicyError):  # what went wrong first is what must be told
                end()
        raise
    episode.inference.close()
    return report


class _Episode:
    """The state of a running episode."""

    def __init__(
        self,
        robot: Robot,
        cameras: Sequence[Camera],
        policy: ChunkPolicy,
        seed: int | None,
        recorder: Callable[[StepRecord], None] | None,
    ) -> None:
        self.robot = robot
        self.cameras = cameras
        self.policy = policy
        self.seed = seed
        self.recorder = recorder
        self.history: deque[dict[str, NDArray]] = deque(maxlen=policy.observation_steps)
        self.scheduler = ChunkScheduler(policy.action_steps + math.ceil(PATIENCE_S / policy.dt))
        self.inference = InferenceThread(policy, self.scheduler)
        self.counts: dict[Status, int] = {"fresh": 0, "hold": 0, "waiting": 0}
        self.observed_step = 0
        self.previewed_ns = sys.maxsize

    def run(self, duration_s: float, stop_when: Callable[[], bool] | None) -> EpisodeReport:
        set_timer_slack()
        lateness_before = self._robot_lateness()
        self._plan_first_chunk()
        loop = DeadlineLoop(1.0 / self.policy.dt)
        step, last_step = -1, math.ceil(duration_s / self.policy.dt) - 1
        begin = now_ns()
        success = False
        while step < last_step:
            step += loop.wait()
            self.inference.check()
            if stop_when is not None and stop_when():
                success = True
                break
            self._step(step, loop.deadline_ns)
        self.robot.hold()
        lateness = self._robot_lateness()
        if lateness is not None and lateness_before is not None:
            lateness = lateness.since(lateness_before)
        executor = loop.statistics.summary()
        return EpisodeReport(
            success=success,
            duration_s=ns_to_seconds(now_ns() - begin),
            steps=sum(self.counts.values()),
            actions=self.counts["fresh"],
            holds=self.counts["hold"],
            waiting=self.counts["waiting"],
            skipped=executor.skipped,
            dropped_rows=self.scheduler.dropped_rows,
            inference_s=np.array(self.inference.latencies_s),
            executor=executor,
            robot=lateness,
        )

    def _robot_lateness(self) -> LatenessSummary | None:
        return self.robot.lateness() if isinstance(self.robot, ReportsLateness) else None

    def _step(self, step: int, begin_ns: int) -> None:
        time_ns, observation = self._observe()
        self._remember(observation)
        if self._is_due(step):
            self.inference.request(step, time_ns, self._stacked_history(), self._seeds(step))
            self.observed_step = step
        self._await_chunk(step, begin_ns)
        scheduled = self.scheduler.action(step)
        self.counts[scheduled.status] += 1
        sent = None
        if scheduled.action is not None:
            # A row of a newer chunk replaces the one previewed for its step, though its image was another.
            due_ns = now_ns() if scheduled.status == "hold" else min(scheduled.due_ns, self.previewed_ns)
            sent = self.robot.command(scheduled.action, due_ns)
            self._preview(step + 1)
        if self.recorder is not None:
            self.recorder(StepRecord(step, time_ns, observation, sent, scheduled.status))

    def _preview(self, step: int) -> None:
        """Commands what comes next too, so that the robot need not come to rest in between."""
        following = self.scheduler.preview(step)
        self.previewed_ns = sys.maxsize
        if following is not None and following.action is not None:
            self.robot.command(following.action, following.due_ns)
            self.previewed_ns = following.due_ns

    def _plan_first_chunk(self) -> None:
        """Samples the chunk of step 0 before the clock starts: its rows meet the robot where it stands.

        The inference before it lets the policy allocate and compile what it needs.
        """
        self._first_chunk()
        chunk = self._first_chunk()
        self.history.clear()
        self.inference.latencies_s.clear()
        self.scheduler.add(replace(chunk, time_ns=now_ns()))
        self.observed_step = 0

    def _first_chunk(self) -> Chunk:
        self.policy.reset()
        self.history.clear()
        time_ns, observation = self._observe()
        self._remember(observation)
        self.inference.request(0, time_ns, self._stacked_history(), self._seeds(0))
        self.inference.wait(now_ns() + seconds_to_ns(FIRST_CHUNK_TIMEOUT_S))
        self.inference.check()
        chunk = self.inference.newest
        if chunk is None or self.inference.busy:
            raise RobopolicyError(
                f"The policy gave no action within {FIRST_CHUNK_TIMEOUT_S:g} s; nothing was moved."
            )
        return chunk

    def _remember(self, observation: dict[str, NDArray]) -> None:
        self.history.append(
            {feature.key: observation[feature.key] for feature in self.policy.spec.observation}
        )

    def _is_due(self, step: int) -> bool:
        return not self.inference.busy and step - self.observed_step >= self.policy.action_steps

    def _await_chunk(self, step: int, begin_ns: int) -> None:
        """Waits for a chunk under way, where it can still serve this step and is worth waiting for."""
        start_delay_s = START_DELAY_SHARE * self.policy.dt
        soon = self.observed_step == step and self.inference.expected_latency_s < start_delay_s
        if self.inference.busy and (soon or not self.scheduler.covers(step)):
            self.inference.wait(begin_ns + seconds_to_ns(start_delay_s))

    def _observe(self) -> tuple[int, dict[str, NDArray]]:
        """Returns the newest images and the robot's state at their time; the time is the oldest image's."""
        observation: dict[str, NDArray] = {}
        times = []
        for camera in self.cameras:
            image_ns, images = camera.read()
            times.append(image_ns)
            observation |= images
        if times and isinstance(self.robot, RecallsStates):
            _, state = self.robot.state_at(min(times))
        else:
            state_ns, state = self.robot.state()
            times.append(state_ns)
        age_s = ns_to_seconds(now_ns() - min(times))
        if age_s > MAX_OBSERVATION_AGE_S:
            raise DeviceError(
                f"The newest observation is {age_s:.2f} s old (allowed: {MAX_OBSERVATION_AGE_S} s); the "
                "robot was stopped. Check that the cameras and the robot still deliver data."
            )
        return min(times), observation | state

    def _stacked_history(self) -> Observation:
        """Returns ``[1, To, ...]`` by key; the oldest observation stands in for those before the start."""
        rows = [self.history[0]] * (self.policy.observation_steps - len(self.history)) + list(self.history)
        return {key: np.stack([row[key] for row in rows])[None] for key in rows[0]}

    def _seeds(self, step: int) -> list[int] | None:
        return None if self.seed is None else [noise_seed(self.seed, step)]
