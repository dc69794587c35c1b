"""ChunkScheduler: which action belongs to which control step, whatever the policy's delay.

Every row of a chunk belongs to one absolute control step. Latency is therefore dropped *by count*: rows for
steps that have been played are never played again. A step that no chunk covers is a defined hold of the last
action, and play resumes with the next chunk that covers the then current step.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.clock import seconds_to_ns
from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_drivers.interfaces import Chunk

Status = Literal["fresh", "hold", "waiting"]


@dataclass(frozen=True)
class ScheduledAction:
    """What to do at a control step.

    Attributes:
        action: ``[A]``; None while no chunk has ever been played.
        status: "fresh": a row planned for this step; "hold": the last action again, because no chunk
            covers the step; "waiting": nothing has been planned yet, stay as you are.
        age_steps: control steps since the observation behind the action; of a hold, of the held action.
        due_ns: when it should be reached: row r of a chunk at its observation's time plus (r + 1) dt
            [ns, monotonic]; past, for a hold.
    """

    action: NDArray[np.float64] | None
    status: Status
    age_steps: int = 0
    due_ns: int = 0


class ChunkScheduler:
    """See the module text. Thread-safe: ``add`` and ``action`` may be called from different threads.

    The chunk with the newest observation wins; of two from the same step, the one added last.

    Args:
        max_age_steps: an action is played at most this many steps after its observation.
    """

    def __init__(self, max_age_steps: int) -> None:
        if max_age_steps < 0:
            raise ConfigError(f"max_age_steps is {max_age_steps}; give 0 or more.")
        self.max_age_steps = max_age_steps
        self._lock = threading.Lock()
        self._chunks: dict[int, Chunk] = {}
        self._step = -1
        self._last: ScheduledAction | None = None
        self._last_step = 0
        self._dropped = 0

    @property
    def dropped_rows(self) -> int:
        """Rows that arrived after their control step had been played."""
        return self._dropped

    def add(self, chunk: Chunk) -> int:
        """Takes in a chunk.

        Returns:
            how many of its rows came too late for their step.

        Raises:
            SpecError: the actions are not ``[T, A]``, not finite, or of another size than before.
        """
        actions = np.array(chunk.actions, np.float64)
        with self._lock:
            self._check(actions)
            late = min(max(0, self._step + 1 - chunk.first_step), len(actions))
            self._dropped += late
            self._chunks[chunk.first_step] = replace(chunk, actions=actions)
            self._forget_past()
            return late

    def action(self, step: int) -> ScheduledAction:
        """Returns what to do at the control step ``step``; steps must not decrease."""
        with self._lock:
            if step < self._step:
                raise SpecError(
                    f"Control step {step} was asked for after step {self._step}; steps never go back."
                )
            self._step = step
            self._forget_past()
            planned = self._planned(step)
            if planned is not None:
                self._last, self._last_step = planned, step
                return planned
            if self._last is None:
                return ScheduledAction(None, "waiting")
            return replace(self._last, status="hold", age_steps=self._last.age_steps + step - self._last_step)

    def preview(self, step: int) -> ScheduledAction | None:
        """Returns what is planned for a later control step so far; None where nothing is."""
        with self._lock:
            return self._planned(step)

    def covers(self, step: int) -> bool:
        """Returns whether a chunk has a row for the control step ``step``, the present one or a later one."""
        with self._lock:
            return self._best_chunk(step) is not None

    def reset(self) -> None:
        """Forgets all chunks and the last action, for the next episode."""
        with self._lock:
            self._chunks.clear()
            self._step = -1
            self._last = None
            self._dropped = 0

    def _check(self, actions: NDArray[np.float64]) -> None:
        if actions.ndim != 2 or not actions.size:
            raise SpecError(f"A chunk has shape [T, A] with T, A > 0; given: {list(actions.shape)}.")
        if not np.isfinite(actions).all():
            raise SpecError("A chunk holds NaN or infinite actions; it was refused.")
        size = self._action_size()
        if size is not None and size != actions.shape[1]:
            raise SpecError(
                f"A chunk with {actions.shape[1]} numbers an action was given after ones with {size}."
            )

    def _action_size(self) -> int | None:
        if self._last is not None and self._last.action is not None:
            return len(self._last.action)
        return next((chunk.actions.shape[1] for chunk in self._chunks.values()), None)

    def _planned(self, step: int) -> ScheduledAction | None:
        chunk = self._best_chunk(step)
        if chunk is None:
            return None
        row = step - chunk.first_step
        due_ns = chunk.time_ns + (row + 1) * seconds_to_ns(chunk.dt_s)
        return ScheduledAction(chunk.actions[row], "fresh", row, due_ns)

    def _best_chunk(self, step: int) -> Chunk | None:
        """Returns the newest chunk with a young enough row for ``step``."""
        fitting = (
            chunk for chunk in self._chunks.values() if chunk.first_step <= step <= self._last_useful(chunk)
        )
        return max(fitting, key=lambda chunk: chunk.first_step, default=None)

    def _forget_past(self) -> None:
        """Drops chunks that have no row, or none young enough, for the present step or a later one."""
        self._chunks = {
            first_step: chunk
            for first_step, chunk in self._chunks.items()
            if self._last_useful(chunk) >= self._step
        }

    def _last_useful(self, chunk: Chunk) -> int:
        return chunk.first_step + min(len(chunk.actions) - 1, self.max_age_steps)
