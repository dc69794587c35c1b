"""Runs one episode of a chunk policy on a robot, in real time.

Timing. Control step k begins at ``t_k = t_0 + k * dt``. At ``t_k`` the executor observes, and an inference
that starts there yields a chunk whose row 0 belongs to step k itself, as in training and simulation. Row r is
sent at the beginning of step k + r, to be reached at "observation + (r + 1) dt", which also makes up for the
age of the image. So that row 0 is not lost to a short inference, the executor waits for it, at most half a
step (``START_DELAY_SHARE``); the robot then covers the step's way in what is left of the step.
An inference that takes longer costs its first rows, dropped by count; meanwhile the rows of the
chunk before are played, up to ``PATIENCE_S`` beyond the usual, and then the robot holds its last
target, and after ``hold_s`` goes back. The first chunk is sampled before the clock starts, because its early
rows must not be lost while the robot still stands.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import now_ns, ns_to_seconds, seconds_to_ns
from robopolicy_datasets.errors import ConfigError, RobopolicyError, unknown_name
from robopolicy_drivers.interfaces import (
    Camera,
    Chunk,
    ChunkPolicy,
    Prefix,
    ReportsLateness,
    Robot,
    TakesPrefix,
    noise_seed,
)
from robopolicy_drivers.realtime.loop import DeadlineLoop
from robopolicy_drivers.realtime.scheduling import set_timer_slack
from robopolicy_drivers.realtime.statistics import LatenessSummary
from robopolicy_drivers.runtime.blending import BLENDINGS
from robopolicy_drivers.runtime.commander import Commander, JumpLimit
from robopolicy_drivers.runtime.configs import RuntimeConfig
from robopolicy_drivers.runtime.inference import InferenceThread, Request
from robopolicy_drivers.runtime.observer import Observer
from robopolicy_drivers.runtime.preflight import require_fit
from robopolicy_drivers.runtime.records import EpisodeReport, Source, StepRecord
from robopolicy_drivers.runtime.scheduler import ChunkScheduler, ScheduledAction
from robopolicy_drivers.runtime.slow_fast import SlowFast
from robopolicy_drivers.runtime.spaces import FeatureSpace
from robopolicy_drivers.runtime.take_over import Operator, TakeOver

START_DELAY_SHARE = 0.5
PATIENCE_S = 0.5
RETREAT_S = 2.0
FIRST_CHUNK_TIMEOUT_S = 60.0


def run_episode(
    robot: Robot,
    cameras: Sequence[Camera],
    policy: ChunkPolicy,
    *,
    duration_s: float,
    seed: int | None = None,
    stop_when: Callable[[], bool] | None = None,
    recorder: Callable[[StepRecord], None] | None = None,
    runtime: RuntimeConfig | None = None,
    operator: Operator | None = None,
    slow_fast: SlowFast | None = None,
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
        runtime: how chunks become commands.
        operator: who may take the robot over at any control step.
        slow_fast: makes actions of the policy's rows, where these are latents.

    Raises:
        SpecError: robot and cameras do not offer what the policy needs.
        ConfigError: the settings are not possible with this policy or robot.
        RobopolicyError: the policy or a device failed; the robot was stopped, and the stop is latched.
    """
    if not duration_s > 0:
        raise ConfigError(f"duration_s is {duration_s}; give a duration above 0 s.")
    runtime = runtime or RuntimeConfig()
    if runtime.real_time_chunking and not (isinstance(policy, TakesPrefix) and policy.takes_prefix):
        raise ConfigError(
            f"{type(policy).__name__} takes no prefix, so its chunks cannot continue each other. Set "
            "runtime.real_time_chunking=false."
        )
    require_fit(policy, robot, cameras)
    episode = _Episode(robot, cameras, policy, seed, recorder, runtime, operator, slow_fast)
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
        runtime: RuntimeConfig,
        operator: Operator | None,
        slow_fast: SlowFast | None,
    ) -> None:
        self.robot = robot
        self.policy = policy
        self.seed = seed
        self.recorder = recorder
        self.runtime = runtime
        self.slow_fast = slow_fast
        self.observer = Observer(robot, cameras, policy.spec, policy.observation_steps, runtime.latencies_s)
        space = FeatureSpace(robot.spec.action)
        self.commander = Commander(
            JumpLimit(space, runtime.max_speed_m * policy.dt, runtime.max_speed_rad * policy.dt),
            self._steps_in(RETREAT_S),
        )
        self.take_over = TakeOver(operator, space.size) if operator is not None else None
        if runtime.blending not in BLENDINGS:
            raise unknown_name("blending", runtime.blending, BLENDINGS)
        self.scheduler = ChunkScheduler(
            policy.action_steps + self._steps_in(PATIENCE_S),
            BLENDINGS[runtime.blending](space),
            self._steps_in(runtime.hold_s),
        )
        self.inference = InferenceThread(policy, self.scheduler)
        self.counts: dict[Source, int] = dict.fromkeys(get_args(Source), 0)
        self.observed_step = 0
        self.action_latency_ns = seconds_to_ns(runtime.action_latency_s)
        self.previewed_ns = sys.maxsize
        self.restarting = False

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
            retreats=self.counts["retreat"],
            human=self.counts["human"],
            waiting=self.counts["waiting"],
            skipped=executor.skipped,
            dropped_rows=self.scheduler.dropped_rows,
            inference_s=np.array(self.inference.latencies_s),
            executor=executor,
            robot=lateness,
            last_target=self.commander.last,
            events=tuple(self.take_over.events()) if self.take_over is not None else (),
        )

    def _steps_in(self, seconds: float) -> int:
        return math.ceil(seconds / self.policy.dt)

    def _robot_lateness(self) -> LatenessSummary | None:
        return self.robot.lateness() if isinstance(self.robot, ReportsLateness) else None

    def _step(self, step: int, begin_ns: int) -> None:
        time_ns, observation = self.observer.observe()
        human = self._ask_operator(observation)
        if self._is_due(step):
            self._request(step, time_ns)
        self._await_chunk(step, begin_ns)
        planned = self.scheduler.action(step)
        if self.slow_fast is not None:
            planned = self.slow_fast.decode(step, planned)
        source: Source = planned.status if human is None else "human"
        sent = self._command(source, planned if human is None else replace(planned, action=human))
        if source == "fresh" and self.slow_fast is None:
            self._preview(step + 1)
        self.counts[source] += 1
        policy_action = planned.action if planned.status == "fresh" else None
        if human is not None and sent is not None and self.take_over is not None:
            self.take_over.note(time_ns, sent, policy_action)
        if self.recorder is not None:
            self.recorder(StepRecord(step, time_ns, observation, sent, source, policy_action))

    def _command(self, source: Source, planned: ScheduledAction) -> NDArray | None:
        """Commands what the source says, on from the last target; returns what was sent."""
        commander = self.commander
        soon_ns = now_ns() + seconds_to_ns(self.policy.dt)
        target: NDArray[np.float64] | None
        if source in ("fresh", "human") and planned.action is not None:
            target = commander.toward(planned.action)
            due_ns = planned.due_ns - self.action_latency_ns if source == "fresh" else soon_ns
        elif source == "retreat":
            target, due_ns = commander.back(), soon_ns
        else:
            target, due_ns = commander.last, now_ns()
        if target is None:
            return None
        # It replaces what was previewed for this step, though the image behind that may have been another.
        sent = self.robot.command(target, min(due_ns, self.previewed_ns))
        self.previewed_ns = sys.maxsize
        commander.sent(sent, forward=source in ("fresh", "human"))
        return sent

    def _preview(self, step: int) -> None:
        """Commands what comes next too, so that the robot need not come to rest in between."""
        following = self.scheduler.preview(step)
        if following is not None and following.action is not None:
            self.previewed_ns = following.due_ns - self.action_latency_ns
            self.robot.command(self.commander.toward(following.action), self.previewed_ns)

    def _ask_operator(self, observation: dict[str, NDArray]) -> NDArray[np.float64] | None:
        """Returns the operator's target; when they let go, the policy begins anew from here."""
        last = self.commander.last
        if self.take_over is None or last is None:
            return None
        before = self.take_over.active
        human = self.take_over.ask(observation, last)
        if before and human is None:
            self.inference.abandon()
            self.scheduler.discard()
            self.restarting = True
        return human

    def _plan_first_chunk(self) -> None:
        """Samples the chunk of step 0 before the clock starts: its rows meet the robot where it stands.

        The inferences before it let the policy allocate and compile what it needs, for a prefix too.
        """
        warm_up = self._first_chunk()
        if self.runtime.real_time_chunking:
            self._first_chunk(Prefix(warm_up.actions, 0))
        chunk = self._first_chunk()
        self.observer.forget()
        self.inference.latencies_s.clear()
        self.scheduler.add(replace(chunk, time_ns=now_ns()))
        self.observed_step = 0

    def _first_chunk(self, prefix: Prefix | None = None) -> Chunk:
        self.observer.forget()
        time_ns, _ = self.observer.observe()
        self.inference.request(
            Request(0, time_ns, self.observer.history(), self._seeds(0), prefix, restart=True)
        )
        self.inference.wait(now_ns() + seconds_to_ns(FIRST_CHUNK_TIMEOUT_S))
        self.inference.check()
        chunk = self.inference.newest
        if chunk is None or self.inference.busy:
            raise RobopolicyError(
                f"The policy gave no action within {FIRST_CHUNK_TIMEOUT_S:g} s; nothing was moved."
            )
        return chunk

    def _is_due(self, step: int) -> bool:
        due = self.restarting or step - self.observed_step >= self.policy.action_steps
        return due and not self.inference.busy

    def _request(self, step: int, time_ns: int) -> None:
        self.inference.request(
            Request(
                step,
                time_ns,
                self.observer.history(),
                self._seeds(step),
                self._prefix(step) if self.runtime.real_time_chunking else None,
                self.restarting,
            )
        )
        self.observed_step, self.restarting = step, False

    def _prefix(self, step: int) -> Prefix | None:
        """Returns what will be played from ``step`` on, and how much of it before the next chunk is there."""
        rows = self.scheduler.prefix(step)
        if not len(rows):
            return None
        latency_s = max(self.inference.longest_latency_s, self.runtime.inference_latency_s)
        waited_for = latency_s < START_DELAY_SHARE * self.policy.dt
        return Prefix(rows, 0 if waited_for else math.ceil(latency_s / self.policy.dt))

    def _await_chunk(self, step: int, begin_ns: int) -> None:
        """Waits for a chunk under way, where it can still serve this step and is worth waiting for."""
        start_delay_s = START_DELAY_SHARE * self.policy.dt
        soon = self.observed_step == step and self.inference.expected_latency_s < start_delay_s
        if self.inference.busy and (soon or not self.scheduler.covers(step)):
            self.inference.wait(begin_ns + seconds_to_ns(start_delay_s))

    def _seeds(self, step: int) -> list[int] | None:
        return None if self.seed is None else [noise_seed(self.seed, step)]
