"""What an episode leaves behind: a record of each control step, and a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.store.events import Event
from robopolicy_drivers.realtime.statistics import LatenessSummary

Source = Literal["fresh", "hold", "retreat", "waiting", "human"]
"""Where a command came from: a ``Status`` of the scheduler, or a person."""


@dataclass(frozen=True)
class StepRecord:
    """What happened at one control step.

    Attributes:
        step: absolute control step.
        time_ns: time of the observation [ns, monotonic].
        observation: newest observation by key, of the robot and all cameras.
        action: what was really sent to the robot ``[A]``; None when nothing was.
        status: where the action came from.
        policy_action: what the policy planned for this step ``[A]``, also while a person drives; None where
            it planned nothing.
    """

    step: int
    time_ns: int
    observation: dict[str, NDArray]
    action: NDArray | None
    status: Source
    policy_action: NDArray | None = None


@dataclass(frozen=True)
class EpisodeReport:
    """How an episode went.

    Attributes:
        success: whether ``stop_when`` ended it.
        duration_s: from the first step to the end [s].
        steps: control steps that were executed.
        actions: steps that played a row planned for them.
        holds: steps that repeated the last action, because no chunk covered them.
        retreats: steps that went back along the way, because no chunk had come for long.
        human: steps that a person drove.
        waiting: steps for which nothing was planned yet.
        skipped: control steps that passed while the executor was late.
        dropped_rows: rows of chunks that came too late for their step.
        inference_s: duration of each inference since the clock started ``[K]`` [s].
        executor: lateness of the control steps.
        robot: lateness of the robot's own loop during the episode, where it reports it.
        last_target: what was really sent last ``[A]``; None where nothing was.
        events: spans in which a person drove.
    """

    success: bool
    duration_s: float
    steps: int
    actions: int
    holds: int
    retreats: int
    human: int
    waiting: int
    skipped: int
    dropped_rows: int
    inference_s: NDArray[np.float64]
    executor: LatenessSummary
    robot: LatenessSummary | None
    last_target: NDArray[np.float64] | None = None
    events: tuple[Event, ...] = ()
